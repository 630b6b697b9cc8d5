"""Comparison of arms with a reference arm: does synthetic data help, and at which multiplier? Needs no torch.

Every arm is a training set x seeds; every test image is scored by every model. Arms are paired by seed and image. The
arm that the verdict speaks of is chosen on validation images, its numbers come from test images.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline import files, paths, seeding, tracking
from pipeline.errors import UserError
from pipeline.metrics.paired import Estimate, Noise, estimate, seed_noise, two_level_bootstrap, unpaired_noise
from pipeline.metrics.resampling import holm, percentile_interval, sign_flip_p
from pipeline.params import Params, TrainingSet
from pipeline.segment_params import Compare
from pipeline.verdict import decide, sentence

Table = NDArray[np.float64]  # [seeds, images]
Row = dict[str, Any]
METRICS = ("dice", "iou")


@dataclass(frozen=True)
class Results:
    """All scores of one segmenter."""

    tables: Mapping[tuple[str, str, str], Table]  # (training set, split, metric) -> [seeds, images]
    seeds: tuple[str, ...]
    images: Mapping[str, tuple[tuple[str, str], ...]]  # split -> (test set, image) in the order of the columns


def compare(params: Params) -> Row:
    """The whole comparison: arms, curve, verdict. Raises UserError where a score is missing."""
    arms: list[Row] = []
    for segmenter in params.segmenters:
        arms += compare_arms(params, segmenter, read_results(params, segmenter))
    conclude(arms, params.compare)
    return {
        "arms": arms,
        "curve": multiplier_curve(arms),
        "verdict": sentence(arms, params.compare),
        "verdicts": {
            name: sentence([row for row in arms if row["segmenter"] == name], params.compare)
            for name in params.segmenters
        },
        "about": {"primary": "dice", **params.compare.model_dump()},
    }


def read_results(params: Params, segmenter: str) -> Results:
    """Reads scores.csv of one segmenter. Raises UserError naming the first arm, seed and image without a score."""
    path = paths.segmentation(params.study, segmenter) / "scores.csv"
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage segment for {segmenter}")
    found: dict[tuple[str, str, str], dict[tuple[str, str], Row]] = defaultdict(dict)
    seeds: dict[str, None] = {}
    images: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
    for row in tracking.read_table(path):
        image = row["test_set"], row["image"]
        found[row["training_set"], row["split"], row["seed"]][image] = row
        seeds[row["seed"]] = None
        images[row["split"]][image] = None
    if missing := {"val", "test"} - set(images):
        raise UserError(f"{path} holds no image of the splits {', '.join(sorted(missing))}; run segment again")
    tables = {
        (arm, split, metric): _table(found, (arm, split, metric), list(seeds), list(names), str(path))
        for arm in params.training_sets
        for split, names in images.items()
        for metric in METRICS
    }
    return Results(tables, tuple(seeds), {split: tuple(names) for split, names in images.items()})


def _table(
    found: Mapping[tuple[str, str, str], Mapping[tuple[str, str], Row]],
    key: tuple[str, str, str],
    seeds: Sequence[str],
    images: Sequence[tuple[str, str]],
    where: str,
) -> Table:
    arm, split, metric = key
    for seed in seeds:
        cell = found.get((arm, split, seed), {})
        if absent := [name for name in images if name not in cell]:
            what = f"{arm}, seed {seed}, {split} image {absent[0][1]!r}"
            raise UserError(f"{where} has no score of {what} ({len(absent)} of {len(images)}); run segment again")
    return np.array([[float(found[arm, split, seed][name][metric]) for name in images] for seed in seeds])


def compare_arms(params: Params, segmenter: str, results: Results) -> list[Row]:
    """One row per training set: means, difference to the reference, p-values; the verdict is still open."""
    settings, names = params.compare, list(params.training_sets)
    noises = {m: seed_noise([results.tables[name, "test", m] for name in names]) for m in METRICS}
    rows = []
    for name, arm in params.training_sets.items():
        row: Row = {"segmenter": segmenter, "training_set": name, "role": _role(name, arm, settings)}
        row |= {"generator": arm.generator, "multiplier": arm.multiplier, "screened": arm.screened}
        row |= {"n_images": len(results.images["test"]), "n_seeds": len(results.seeds)}
        for metric in METRICS:
            table = results.tables[name, "test", metric]
            row |= _estimate(metric, estimate(table, noises[metric], settings.confidence), least=0.0, most=1.0)
        row |= _about_seeds(results, name)
        if name != settings.reference:
            row |= difference(params, segmenter, name, results)
        rows.append(row)
    return rows


def difference(params: Params, segmenter: str, name: str, results: Results) -> Row:
    """Paired difference to the reference arm on test images, in Dice (primary) and IoU, and what it does to images."""
    settings = params.compare
    pair = {
        key: results.tables[name, *key] - results.tables[settings.reference, *key]
        for key in (("test", "dice"), ("test", "iou"), ("val", "dice"))
    }
    dice = pair["test", "dice"]
    of_images = dice.mean(0)  # averaged over seeds
    stream = (params.seed, "compare", segmenter, name)
    draws = two_level_bootstrap(dice, settings.resamples, seeding.numpy_rng(*stream, "bootstrap"))
    low, high = percentile_interval(draws, settings.confidence)
    found = estimate(dice, _difference_noise(params, results, name, "dice"), settings.confidence)
    iou_noise = _difference_noise(params, results, name, "iou")
    worst = np.sort(of_images)[: max(1, len(of_images) // 10)]
    return {
        **_estimate("difference", found),
        **_estimate("difference_iou", estimate(pair["test", "iou"], iou_noise, settings.confidence)),
        "bootstrap_low": low,
        "bootstrap_high": high,
        "p": found.p,
        "p_images": sign_flip_p(of_images, settings.resamples, seeding.numpy_rng(*stream, "signs")),
        "val_difference": float(pair["val", "dice"].mean()),
        "effect_size": _effect_size(of_images),  # Cohen's d_z over images
        "share_improved": float((of_images > 0).mean()),
        "worst_tenth": float(worst.mean()),  # mean difference of the images that lose most
    }


def _difference_noise(params: Params, results: Results, name: str, metric: str) -> Noise:
    """Noise of seeds in the difference to the reference, pooled over all arms that share the reference's seeds."""
    reference, sets = params.compare.reference, params.training_sets
    tables = {arm: results.tables[arm, "test", metric] for arm in sets}
    if sets[name].seed_offset != sets[reference].seed_offset:
        return unpaired_noise(tables[name], tables[reference])
    mates = [
        mate
        for mate, arm in sets.items()
        if arm.seed_offset == sets[name].seed_offset and (mate == name or _role(mate, arm, params.compare) == "arm")
    ]
    return seed_noise([tables[mate] - tables[reference] for mate in mates])


def conclude(arms: list[Row], settings: Compare) -> None:
    """Adds p-values adjusted over all arms of the study (Holm; controls stay outside) and each arm's verdict."""
    family = [row for row in arms if row["role"] == "arm"]
    for key in ("p", "p_images"):
        for row, adjusted in zip(family, holm([row[key] for row in family]), strict=True):
            row[f"{key}_holm"] = adjusted
    for row in arms:
        if row["role"] not in ("arm", "reference"):
            row |= {"p_holm": row["p"], "p_images_holm": row["p_images"]}
        row["verdict"] = None if row["role"] == "reference" else str(decide(row, settings))


def multiplier_curve(arms: Sequence[Row]) -> list[Row]:
    """Dice by segmenter, generator and multiplier with intervals; 0: the reference. Screened arms are left out."""
    curve = []
    for segmenter in dict.fromkeys(row["segmenter"] for row in arms):
        own = [row for row in arms if row["segmenter"] == segmenter]
        reference = next(row for row in own if row["role"] == "reference")
        whole = [row for row in own if row["role"] == "arm" and not row["screened"]]
        for generator in dict.fromkeys(row["generator"] for row in whole):
            steps = [reference, *(row for row in whole if row["generator"] == generator)]
            for row in sorted(steps, key=lambda row: row["multiplier"]):
                point = {"dice": row["dice"], "low": row["dice_low"], "high": row["dice_high"]}
                name = {"segmenter": segmenter, "generator": generator, "multiplier": row["multiplier"]}
                curve.append(name | {key: round(value, 6) for key, value in point.items()})
    return curve


def publish_comparison(params: Params, comparison: Row) -> None:
    """Writes arms.csv, multiplier_curve.csv and, last, comparison.json."""
    folder, arms = paths.comparison(params.study), comparison["arms"]
    columns = [key for key in max(arms, key=len) if not isinstance(arms[0].get(key), dict)]
    rounded = [{key: _rounded(row.get(key)) for key in columns} for row in arms]
    tracking.write_table(folder / "arms.csv", rounded)
    curve = ("segmenter", "generator", "multiplier", "dice", "low", "high")
    tracking.write_table(folder / "multiplier_curve.csv", comparison["curve"], curve)
    files.write_json(folder / "comparison.json", comparison)


def arms_as_metrics(comparison: Row) -> Row:
    """arms.<segmenter>.<training_set>.{dice,iou}.{mean,low,high} of a comparison."""
    tree: Row = defaultdict(dict)
    for row in comparison["arms"]:
        tree[row["segmenter"]][row["training_set"]] = {
            metric: {"mean": row[metric], "low": row[f"{metric}_low"], "high": row[f"{metric}_high"]}
            for metric in METRICS
        }
    return dict(tree)


def collect_metrics(params: Params) -> Row:
    """What reports/metrics.json holds: arms, judge.dice, faithfulness by generator and of the control, verdict."""
    comparison = _read(paths.comparison(params.study) / "comparison.json")
    judge = _read(paths.judge(params.study) / "metrics.json")
    scores = {name: _read(paths.scores(params.study, name) / "metrics.json") for name in params.generators}
    faithfulness = {name: score.get("faithfulness") for name, score in scores.items()}
    shuffled = [
        score["faithfulness_shuffled"] for score in scores.values() if score.get("faithfulness_shuffled") is not None
    ]
    return {
        "arms": arms_as_metrics(comparison),
        "judge": {"dice": judge["dice"]},
        "faithfulness": {**faithfulness, "shuffled": float(np.mean(shuffled)) if shuffled else None},
        "verdict": comparison["verdict"],
    }


def _read(path: Any) -> Row:
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage that makes it (dvc repro runs all that are missing)")
    return files.read_json(path)


def _role(name: str, arm: TrainingSet, settings: Compare) -> str:
    if name == settings.reference:
        return "reference"
    if arm.generator is not None:
        return "arm"
    if arm.real == "all":
        return "ceiling"  # more real images: a difference is what one hopes to reach, not a fault
    return "control" if arm.repeat == 1 else "repeated"


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


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
