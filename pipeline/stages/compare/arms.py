"""One row per training set: means, paired difference to the reference arm, tests, what a finer study would need.

`evidence` and `conclude` give all that a verdict rests on; benchmarks/calibration.py simulates how often they err.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding
from pipeline.core.progress import track
from pipeline.metrics.statistics import power
from pipeline.metrics.statistics.paired import (
    Estimate,
    Noise,
    equivalence_p,
    estimate,
    half_width,
    p_value,
    seed_noise,
    two_level_bootstrap,
    unpaired_noise,
)
from pipeline.metrics.statistics.resampling import holm, percentile_interval, sign_flip_p
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.results import METRICS, Results, Row, Table
from pipeline.stages.compare.verdict import decide
from pipeline.stages.mix.params import TrainingSet
from pipeline.study import Params


def compare_arms(params: Params, segmenter: str, results: Results) -> list[Row]:
    """One row per training set: means, difference to the reference, p-values; the verdict is still open."""
    settings, names = params.compare, list(params.training_sets)
    noises = {m: seed_noise([_units(results, name, m) for name in names]) for m in METRICS}
    rows = []
    for name, arm in track(params.training_sets.items(), f"compare {segmenter}"):
        row: Row = {"segmenter": segmenter, "training_set": name, "role": role(name, arm, settings)}
        row |= {"generator": arm.generator, "multiplier": arm.multiplier, "screened": arm.screened}
        row |= {"n_images": len(results.images["test"]), "n_seeds": len(results.seeds)}
        row |= {"n_clusters": len(set(results.units("test"))) if results.clusters else None}
        for metric in METRICS:
            found = estimate(_units(results, name, metric), noises[metric], settings.confidence)
            row |= _estimate(metric, found, least=0.0, most=1.0)
        row |= _about_seeds(results, name)
        if name != settings.reference:
            row |= evidence(params, name, results) | described(params, name, results)
        rows.append(row)
    return rows


def evidence(params: Params, name: str, results: Results) -> Row:
    """The difference to the reference arm in Dice on test images, and every p that the verdict rests on."""
    settings = params.compare
    dice = _difference(results, name, settings.reference, "test", "dice")
    units, noise = results.by_unit(dice, "test"), _difference_noise(params, results, name, "dice")
    half, mean = half_width(units, noise), float(dice.mean())
    width, signs = half.at(1 - settings.confidence), seeding.number(params.seed, "compare", "signs")
    return {
        "difference": mean,
        "difference_low": max(mean - width, -1.0),
        "difference_high": min(mean + width, 1.0),
        "p": p_value(abs(mean), half.at),
        "p_images": sign_flip_p(results.sums(dice.mean(0), "test"), settings.resamples, signs),
        "p_equivalent": equivalence_p(mean, half, settings.margin),
    }


def described(params: Params, name: str, results: Results) -> Row:
    """What else is told of a difference: bootstrap, IoU, gain on validation images, effect size, harm, power."""
    settings, reference = params.compare, params.compare.reference
    dice = _difference(results, name, reference, "test", "dice")
    iou = results.by_unit(_difference(results, name, reference, "test", "iou"), "test")
    iou_noise = _difference_noise(params, results, name, "iou")
    of_images = dice.mean(0)  # averaged over seeds
    rng = seeding.numpy_rng(params.seed, "compare", name, "bootstrap")
    draws = two_level_bootstrap(results.by_unit(dice, "test")[None], settings.resamples, rng)[:, 0]
    low, high = percentile_interval(draws, settings.confidence)
    worst = np.sort(of_images)[: max(1, len(of_images) // 10)]
    return {
        **_estimate("difference_iou", estimate(iou, iou_noise, settings.confidence)),
        "bootstrap_low": low,
        "bootstrap_high": high,
        "val_difference": float(_difference(results, name, reference, "val", "dice").mean()),
        "effect_size": _effect_size(of_images),  # Cohen's d_z over images
        "share_improved": float((of_images > 0).mean()),
        "worst_tenth": float(worst.mean()),  # mean difference of the images that lose most
        **needs(params, name, results),
    }


def needs(params: Params, name: str, results: Results) -> Row:
    """Images or seeds with which a true difference of the margin would be found, at the strictest step of Holm.

    `detectable` is the smallest difference that this study finds as often. All None where there is one seed or image.
    """
    settings = params.compare
    units = results.by_unit(_difference(results, name, settings.reference, "test", "dice"), "test")
    seeds, count = units.shape
    if seeds < 2 or count < 2:
        return dict.fromkeys(("images_needed", "seeds_needed", "detectable"))
    found = power.variance_components(units, _difference_noise(params, results, name, "dice"))
    level = (1 - settings.confidence) / (family_size(params) if is_arm(params, name) else 1)
    fewest = power.images_needed(settings.margin, found, seeds, level, settings.power)
    per_unit = len(results.images["test"]) / count
    return {
        "images_needed": None if fewest is None else int(np.ceil(fewest * per_unit)),
        "seeds_needed": power.seeds_needed(settings.margin, found, count, level, settings.power),
        "detectable": power.detectable(found, seeds, count, level, settings.power),
    }


def family_size(params: Params) -> int:
    """How many differences the correction for several arms speaks of."""
    return len(params.segmenters) * sum(is_arm(params, name) for name in params.training_sets)


def is_arm(params: Params, name: str) -> bool:
    """Does the training set hold synthetic images (and is it not the reference)?"""
    return role(name, params.training_sets[name], params.compare) == "arm"


def conclude(arms: Sequence[Row], settings: Compare) -> None:
    """Adds p-values adjusted over all arms of the study (Holm; controls stay outside) and each arm's verdict."""
    family = [row for row in arms if row["role"] == "arm"]
    for key in ("p", "p_images"):
        for row, adjusted in zip(family, holm([row[key] for row in family]), strict=True):
            row[f"{key}_holm"] = adjusted
    for row in arms:
        if row["role"] not in ("arm", "reference"):
            row |= {"p_holm": row["p"], "p_images_holm": row["p_images"]}
        row["verdict"] = None if row["role"] == "reference" else str(decide(row, settings))


def role(name: str, arm: TrainingSet, settings: Compare) -> str:
    """reference, arm (synthetic images), control (A/A), repeated or ceiling."""
    if name == settings.reference:
        return "reference"
    if arm.generator is not None:
        return "arm"
    if arm.real == "all":
        return "ceiling"  # more real images: a difference is what one hopes to reach, not a fault
    return "control" if arm.repeat == 1 else "repeated"


def _units(results: Results, name: str, metric: str) -> Table:
    return results.by_unit(results.tables[name, "test", metric], "test")


def _difference(results: Results, name: str, reference: str, split: str, metric: str) -> Table:
    return results.tables[name, split, metric] - results.tables[reference, split, metric]


def _difference_noise(params: Params, results: Results, name: str, metric: str) -> Noise:
    """Noise of seeds in the difference to the reference, pooled over all arms that share the reference's seeds."""
    reference, sets = params.compare.reference, params.training_sets
    if sets[name].seed_offset != sets[reference].seed_offset:
        return unpaired_noise(_units(results, name, metric), _units(results, reference, metric))
    mates = [
        mate
        for mate, arm in sets.items()
        if arm.seed_offset == sets[name].seed_offset and (mate == name or is_arm(params, mate))
    ]
    return seed_noise([_units(results, mate, metric) - _units(results, reference, metric) for mate in mates])


def _estimate(name: str, found: Estimate, least: float = -1.0, most: float = 1.0) -> Row:
    return {name: found.mean, f"{name}_low": max(found.low, least), f"{name}_high": min(found.high, most)}


def _about_seeds(results: Results, name: str) -> Row:
    dice = results.tables[name, "test", "dice"]
    sets = np.array([test_set for test_set, _ in results.images["test"]])
    return {
        "seed_sd": float(dice.mean(1).std(ddof=1)) if len(dice) > 1 else None,  # of the mean Dice, seed to seed
        "val_dice": float(results.tables[name, "val", "dice"].mean()),
        "test_sets": {
            str(s): {"dice": float(dice[:, sets == s].mean()), "n": int((sets == s).sum())} for s in np.unique(sets)
        },
    }


def _effect_size(differences: NDArray[np.float64]) -> float | None:
    spread = differences.std(ddof=1) if len(differences) > 1 else 0.0
    return float(differences.mean() / spread) if spread > 0 else None
