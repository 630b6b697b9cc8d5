"""One row per training set: means, paired difference to the reference arm, tests, what a finer study would need.

`evidence` and `verdict.conclude` give all that a verdict rests on; benchmarks/calibration.py simulates how often they
err.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from pipeline.core import seeding
from pipeline.core.progress import track
from pipeline.metrics.statistics.paired import Estimate, Noise, Table, estimate, seed_noise, unpaired_noise
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.paired_difference import (
    Evidence,
    PairedDifference,
    RequiredSizes,
    bootstrap_interval,
    image_effect,
    required_sizes,
    weigh_evidence,
)
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.results import METRICS, Record, Results
from pipeline.stages.compare.verdict import Conclusion, conclude

FAMILIES = ("arm", "rival")  # roles whose differences are corrected together


@dataclass(frozen=True)
class DifferenceStatistics:
    """Statistics of a difference that are reported beside its evidence."""

    difference_iou: float
    difference_iou_low: float
    difference_iou_high: float
    bootstrap_low: float
    bootstrap_high: float
    val_difference: float  # in Dice on validation images
    effect_size: float | None
    share_improved: float
    worst_tenth: float
    images_needed: int | None
    seeds_needed: int | None
    detectable: float | None


@dataclass(frozen=True)
class Arm:
    """One training set under one segmenter; the reference has no evidence, statistics and conclusion."""

    segmenter: str
    training_set: str
    role: str  # see Design.role
    generator: str | None
    multiplier: int
    screened: bool
    n_images: int
    n_seeds: int
    n_clusters: int | None
    dice: float
    dice_low: float
    dice_high: float
    iou: float
    iou_low: float
    iou_high: float
    seed_sd: float | None  # of the mean Dice, from seed to seed
    val_dice: float
    test_sets: Mapping[str, Mapping[str, float]]  # Dice and number of images by test set
    reference: str | None = None  # with which it is compared; None: it is the study's reference
    evidence: Evidence | None = None
    statistics: DifferenceStatistics | None = None
    conclusion: Conclusion | None = None

    def record(self) -> Record:
        """Return one row of arms.csv and comparison.json."""
        record = {field.name: getattr(self, field.name) for field in fields(self)[:-3]}
        for part in (self.evidence, self.statistics):
            record |= asdict(part) if part else {}
        record.pop("n_units", None)  # n_clusters or n_images
        return record | (asdict(self.conclusion) if self.conclusion else {"verdict": None})


def compare_arms(design: Design, segmenter: str, results: Results) -> list[Arm]:
    """Compare every training set with the reference under one segmenter; verdicts are still open."""
    arms = []
    for name in track(list(design.training_sets), f"compare {segmenter}"):
        arm = _describe(design, segmenter, name, results)
        if name != design.reference:
            arm = replace(
                arm,
                reference=design.reference_of(name),
                evidence=evidence(design, name, results),
                statistics=difference_statistics(design, name, results),
            )
        arms.append(arm)
    return arms


def _mean(design: Design, name: str, results: Results, metric: str) -> tuple[float, float, float]:
    """Return the mean of a training set with its interval; sets of one limit share the noise of their seeds."""
    sets = design.training_sets
    alike = [_units(results, other, metric) for other in sets if sets[other].pair_limit == sets[name].pair_limit]
    mean = estimate(_units(results, name, metric), seed_noise(alike), design.compare.confidence)
    return _clipped(mean, least=0.0, most=1.0)


def _describe(design: Design, segmenter: str, name: str, results: Results) -> Arm:
    """Return the means of one training set."""
    training_set, dice = design.training_sets[name], results.tables[name, "test", "dice"]
    mean_dice, mean_iou = (_mean(design, name, results, metric) for metric in METRICS)
    return Arm(
        segmenter,
        name,
        design.role(name),
        training_set.generator,
        training_set.multiplier,
        training_set.screened,
        len(results.images["test"]),
        len(results.seeds),
        len(set(results.units("test"))) if results.clusters else None,
        *mean_dice,
        *mean_iou,
        seed_sd=float(dice.mean(1).std(ddof=1)) if len(dice) > 1 else None,
        val_dice=float(results.tables[name, "val", "dice"].mean()),
        test_sets=_by_test_set(results, dice),
    )


def evidence(design: Design, name: str, results: Results) -> Evidence:
    """Return the difference to the reference in Dice on test images, and every p that the verdict rests on."""
    difference = paired_difference(design, name, results)
    return weigh_evidence(difference, design.compare, design.compare.margin, design.seed, limit=1.0)


def difference_statistics(design: Design, name: str, results: Results) -> DifferenceStatistics:
    """Return bootstrap, IoU, gain on validation images, effect size, harm and power of a difference."""
    compare, difference = design.compare, paired_difference(design, name, results)
    rng = seeding.numpy_rng(design.seed, "compare", name, "bootstrap")
    iou = paired_difference(design, name, results, "iou")
    validation = results.tables[name, "val", "dice"] - results.tables[design.reference_of(name), "val", "dice"]
    return DifferenceStatistics(
        *_clipped(estimate(iou.units, iou.noise, compare.confidence)),
        *bootstrap_interval(difference, compare, rng),
        val_difference=float(validation.mean()),
        **asdict(image_effect(difference)),
        **asdict(needs(design, name, results)),
    )


def needs(design: Design, name: str, results: Results) -> RequiredSizes:
    """Return the images, or the seeds, with which a true difference of the margin would be found."""
    difference = paired_difference(design, name, results)
    role = design.role(name)
    comparisons = design.number_of(role) if role in FAMILIES else 1
    per_unit = difference.images.shape[1] / difference.units.shape[1]
    return required_sizes(
        difference, design.compare, design.compare.margin, comparisons, to_images=lambda units: units * per_unit
    )


def paired_difference(design: Design, name: str, results: Results, metric: str = "dice") -> PairedDifference:
    """Return the difference of a training set to the reference on test images."""
    own = design.reference_of(name)
    images = results.tables[name, "test", metric] - results.tables[own, "test", metric]
    return results.test_difference(images, _difference_noise(design, name, results, metric))


def conclude_arms(arms: Sequence[Arm], compare: Compare) -> list[Arm]:
    """Return the arms with verdicts; p-values are adjusted over all arms (Holm), and apart from them over all rivals.

    Those of controls stay as they are.
    """
    families = {
        role: iter(conclude([arm.evidence for arm in arms if arm.role == role and arm.evidence], compare))
        for role in FAMILIES
    }
    alone = {
        place: conclude([arm.evidence], compare)[0]
        for place, arm in enumerate(arms)
        if arm.evidence and arm.role not in FAMILIES
    }
    return [
        replace(arm, conclusion=alone.get(place) or next(families[arm.role])) if arm.evidence else arm
        for place, arm in enumerate(arms)
    ]


def _units(results: Results, name: str, metric: str) -> Table:
    return results.by_unit(results.tables[name, "test", metric], "test")


def _difference_noise(design: Design, name: str, results: Results, metric: str) -> Noise:
    """Return the noise of seeds in the difference, pooled over all synthetic sets with its seeds and reference."""
    sets, own = design.training_sets, design.reference_of(name)
    reference = _units(results, own, metric)
    if sets[name].seed_offset != sets[own].seed_offset:
        return unpaired_noise(_units(results, name, metric), reference)
    pooled = [
        other
        for other, arm in sets.items()
        if arm.seed_offset == sets[name].seed_offset
        and (other == name or (arm.generator and other != design.reference and design.reference_of(other) == own))
    ]
    return seed_noise([_units(results, other, metric) - reference for other in pooled])


def _clipped(mean: Estimate, least: float = -1.0, most: float = 1.0) -> tuple[float, float, float]:
    """Return the mean and the ends of its interval, cut at the ends of the scale."""
    return mean.mean, max(mean.low, least), min(mean.high, most)


def _by_test_set(results: Results, dice: Table) -> dict[str, dict[str, Any]]:
    test_sets = np.array([test_set for test_set, _ in results.images["test"]])
    return {
        str(name): {"dice": float(dice[:, test_sets == name].mean()), "n": int((test_sets == name).sum())}
        for name in np.unique(test_sets)
    }
