"""The noise of a study in variance components, from which `twinsynth estimate --power` plans the next one."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.metrics.statistics.paired import cell_noise, seed_noise
from pipeline.metrics.statistics.power import variance_components
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.generator_level import treatment_difference
from pipeline.stages.compare.paired_difference import PairedDifference
from pipeline.stages.compare.results import Results
from pipeline.stages.mix.treatments import Treatment


@dataclass(frozen=True)
class NoiseComponents:
    """Standard deviations of the difference in Dice to the reference, averaged (as variances) over the arms."""

    segmenter: str
    seed_sd: float  # of a seed's mean
    image_sd: float  # of an image's mean over infinitely many seeds
    cell_sd: float  # of one seed on one image, beyond both
    generator_sd: float | None = None  # of a trained generator's mean; None: every treatment has one generator
    generator_cell_sd: float | None = None  # of one generator on one image, beyond both


def noise_components(
    design: Design, segmenter: str, treatments: Sequence[Treatment], results: Results
) -> NoiseComponents | None:
    """Estimate the noise of the arms under one segmenter; None without an arm or with one seed."""
    differences = [treatment_difference(design, one, results) for one in treatments]
    if not differences or len(results.seeds) < 2:
        return None
    found = [variance_components(one.units, one.noise) for one in differences]
    several = [one for one in differences if one.generators is not None]
    return NoiseComponents(
        segmenter,
        _root_mean([one.seeds for one in found]),
        _root_mean([one.images for one in found]),
        _root_mean([one.cells for one in found]),
        _root_mean([_between_generators(one) for one in several]) if several else None,
        _root_mean([_generator_cells(one) for one in several]) if several else None,
    )


def _between_generators(difference: PairedDifference) -> float:
    assert difference.generators is not None
    return seed_noise([difference.generators]).unbiased


def _generator_cells(difference: PairedDifference) -> float:
    assert difference.generators is not None
    return cell_noise(difference.generators)


def _root_mean(variances: Sequence[float]) -> float:
    return float(np.sqrt(np.mean(variances)))
