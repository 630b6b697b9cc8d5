"""The boundary weight of DermoSegDiff over the time of its diffusion, as pictures and as curves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.data.image_set import ImageSet
from pipeline.data.mosaic import mosaic
from pipeline.diffusion.boundary_weight import GAMMA, boundary_weight, exponent
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.report import figures, pictures
from pipeline.stages.report.drawing import Drawing

Pixels = NDArray[np.uint8]
MOMENTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the process, as shares of its last timestep
STEPS = 250  # of the process where the entry names none
GAP, GREY = 2, 160  # pixels between maps, and their grey level


@dataclass(frozen=True)
class BoundaryWeight:
    """The boundary weight of one training mask at several moments."""

    segmenter: str
    moments: str  # in words
    picture: str  # data URI: the mask, then a map per moment


def boundary_weights(
    study: str, segmenters: Mapping[str, SegmenterEntry], side: int = pictures.SIDE
) -> list[BoundaryWeight]:
    """Return the weight on the training mask of median size, of each segmenter that learns with one."""
    moments = ", ".join(f"{moment:g} T" for moment in MOMENTS)
    return [
        BoundaryWeight(name, moments, pictures.photo(weight_maps(study, options), side))
        for name, options in _options(segmenters).items()
    ]


def drawings(segmenters: Mapping[str, SegmenterEntry]) -> Iterator[Drawing]:
    """Yield the boundary weight of each such segmenter as curves over the distance from the border."""
    nearness = np.linspace(1, 0, 101)
    for name, options in _options(segmenters).items():
        steps, gamma = _process(options)
        moments = {f"t = {moment:g} T": moment * (steps - 1) for moment in MOMENTS}
        curves = {label: nearness ** exponent(t, steps, gamma) for label, t in moments.items()}
        yield figures.boundary_weight(name, curves)


def sheets(study: str, segmenters: Mapping[str, SegmenterEntry]) -> dict[str, Pixels]:
    """Return the maps of each such segmenter [H, W, 3], for papers, by the names of their files."""
    return {
        f"boundary_weight_maps_{name}": weight_maps(study, options) for name, options in _options(segmenters).items()
    }


def weight_maps(study: str, options: Mapping[str, Any]) -> Pixels:
    """Return [H, W', 3] a training mask and its boundary weight at MOMENTS, side by side; white is 1.

    `options` are the keys of an entry of DermoSegDiff.
    """
    steps, gamma = _process(options)
    train = ImageSet.open(paths.real(study)).split("train")
    masks = sorted((train.mask(row) > 0 for row in train), key=lambda mask: float(mask.mean()))
    mask = masks[len(masks) // 2]
    extend = options.get("extend", "none")
    maps = [mask, *(boundary_weight(mask, moment * (steps - 1), steps, gamma, extend) for moment in MOMENTS)]
    return mosaic([[(255 * one).round().astype(np.uint8) for one in maps]], GAP, GREY)[..., None].repeat(3, -1)


def _options(segmenters: Mapping[str, SegmenterEntry]) -> dict[str, dict[str, Any]]:
    """Return the plug-in's keys of the entries of DermoSegDiff with loss B."""
    entries = {name: entry for name, entry in segmenters.items() if entry.method_of(name) == "dermosegdiff"}
    return {name: entry.options for name, entry in entries.items() if entry.options.get("loss", "B") == "B"}


def _process(options: Mapping[str, Any]) -> tuple[int, float]:
    return options.get("train_steps", STEPS), options.get("gamma", GAMMA)
