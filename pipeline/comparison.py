"""Comparison of arms with a reference arm: does synthetic data help, and at which multiplier? Needs no torch.

Every arm is a training set x seeds; every test image is scored by every model. Arms are paired by seed and image. The
arm that the verdict speaks of is chosen on validation images, its numbers come from test images.
"""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline import files, multipliers, paths, tracking
from pipeline.arms import compare_arms, conclude
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.results import METRICS, Results, Row, read_results
from pipeline.verdict import sentence

TABLES = {
    "curve": ("multiplier_curve.csv", multipliers.CURVE),
    "choice": ("choice.csv", multipliers.CHOICE),
    "trend": ("trend.csv", multipliers.TREND),
    "generator_seeds": ("generator_seeds.csv", multipliers.SEEDS),
}


def compare(params: Params, read: Callable[[Params, str], Results] = read_results) -> Row:
    """The whole comparison: arms, curve, choice of the multiplier, trend, verdict. Raises UserError without a score."""
    arms: list[Row] = []
    choice: list[Row] = []
    trend: list[Row] = []
    for segmenter in params.segmenters:
        results = read(params, segmenter)
        arms += compare_arms(params, segmenter, results)
        choice += multipliers.choices(params, segmenter, results)
        trend += multipliers.trends(params, segmenter, results)
    conclude(arms, params.compare)
    return {
        "arms": arms,
        "curve": multipliers.multiplier_curve(arms),
        "choice": choice,
        "trend": trend,
        "generator_seeds": multipliers.generator_seeds(params, arms),
        "verdict": sentence(arms, params.compare),
        "verdicts": {
            name: sentence([row for row in arms if row["segmenter"] == name], params.compare)
            for name in params.segmenters
        },
        "about": {"primary": "dice", **params.compare.model_dump()},
    }


def publish_comparison(params: Params, comparison: Row) -> None:
    """Writes arms.csv, multiplier_curve.csv, choice.csv, trend.csv, generator_seeds.csv; last, comparison.json."""
    folder, arms = paths.comparison(params.study), comparison["arms"]
    columns = [key for key in max(arms, key=len) if not isinstance(arms[0].get(key), dict)]
    tracking.write_table(folder / "arms.csv", [_line(row, columns) for row in arms])
    for key, (name, header) in TABLES.items():
        tracking.write_table(folder / name, [_line(row, header) for row in comparison[key]], header)
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


def _line(row: Row, columns: Any) -> Row:
    return {key: _rounded(row.get(key)) for key in columns}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
