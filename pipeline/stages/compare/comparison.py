"""Comparison of arms with a reference arm: does synthetic data help, and at which multiplier? Needs no torch.
Where compare.segmenters asks for it, segmenters are compared with each other too (segmenter_comparison).

Every arm is a training set x seeds; every test image is scored by every model. Arms are paired by seed and image. The
arm that the verdict speaks of is chosen on validation images, its numbers come from test images.
"""

from collections import defaultdict
from typing import Any

import numpy as np

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.stages.compare import multipliers, segmenter_comparison
from pipeline.stages.compare.arms import compare_arms, conclude
from pipeline.stages.compare.results import METRICS, Reader, Row, read_results
from pipeline.stages.compare.verdict import sentence
from pipeline.study import Params

TABLES = {
    "curve": ("multiplier_curve.csv", multipliers.CURVE),
    "choice": ("choice.csv", multipliers.CHOICE),
    "trend": ("trend.csv", multipliers.TREND),
    "generator_seeds": ("generator_seeds.csv", multipliers.SEEDS),
    "segmenters": ("segmenters.csv", segmenter_comparison.COLUMNS),
}


def compare(params: Params, read: Reader = read_results) -> Row:
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
        **_verdicts(params, arms, read),
        "about": {"primary": "dice", **params.compare.model_dump(mode="json", exclude_none=True)},
    }


def _verdicts(params: Params, arms: list[Row], read: Reader) -> Row:
    """The study's sentence and one per segmenter; where segmenters are compared, their rows and their sentence too."""
    rows = segmenter_comparison.compare_segmenters(params, read)
    between = segmenter_comparison.sentence(rows, params) if rows else None
    told: Row = {"segmenters": rows, "segmenters_verdict": between} if between else {}
    if between and not any(row["role"] == "arm" for row in arms):
        return {"verdict": between, "verdicts": {}} | told  # all arms are of real images
    own = {name: [row for row in arms if row["segmenter"] == name] for name in params.segmenters}
    verdicts = {name: sentence(rows, params.compare) for name, rows in own.items()}
    return {"verdict": sentence(arms, params.compare), "verdicts": verdicts} | told


def publish_comparison(params: Params, comparison: Row) -> None:
    """Publishes arms.csv, the TABLES of what the comparison holds, and comparison.json."""
    folder, arms = paths.work("compare", files.fingerprint(comparison)), comparison["arms"]
    columns = [key for key in max(arms, key=len) if not isinstance(arms[0].get(key), dict)]
    tables.write_table(folder / "arms.csv", [_line(row, columns) for row in arms])
    for key, (name, header) in TABLES.items():
        if key in comparison:
            tables.write_table(folder / name, [_line(row, header) for row in comparison[key]], header)
    files.write_json(folder / "comparison.json", comparison)
    files.publish(folder, paths.comparison(params.study))


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
    """What reports/metrics.json holds: arms, judge.dice, faithfulness by generator and of the control, verdict.

    Judge and faithfulness only where the study has them, segmenters only where they are compared with each other.
    """
    comparison = _read(paths.comparison(params.study) / "comparison.json")
    scores = {name: _read(paths.scores(params.study, name) / "metrics.json") for name in params.generators}
    faithfulness = {name: score.get("faithfulness") for name, score in scores.items()}
    shuffled = [
        score["faithfulness_shuffled"] for score in scores.values() if score.get("faithfulness_shuffled") is not None
    ]
    metrics: Row = {"arms": arms_as_metrics(comparison)}
    if params.judge is not None:
        metrics["judge"] = {"dice": _read(paths.judge(params.study) / "metrics.json")["dice"]}
    if params.generators:
        metrics["faithfulness"] = {**faithfulness, "shuffled": float(np.mean(shuffled)) if shuffled else None}
    if comparison.get("segmenters"):
        metrics["segmenters"] = segmenters_as_metrics(comparison["segmenters"])
    return metrics | {"verdict": comparison["verdict"]}


def segmenters_as_metrics(rows: list[Row]) -> Row:
    """segmenters.<metric>.<segmenter>.{mean,low,high,verdict} of a comparison of segmenters."""
    tree: Row = defaultdict(dict)
    for row in rows:
        tree[row["metric"]][row["segmenter"]] = {key: row[key] for key in ("mean", "low", "high", "verdict")}
    return dict(tree)


def _read(path: Any) -> Row:
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage that makes it (dvc repro runs all that are missing)")
    return files.read_json(path)


def _line(row: Row, columns: Any) -> Row:
    return {key: _rounded(row.get(key)) for key in columns}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
