"""Comparison of arms with a reference arm: does synthetic data help, and at which multiplier? Needs no torch.
Where compare.segmenters asks for it, segmenters are compared with each other too (segmenter_comparison).

Every arm is a training set x seeds; every test image is scored by every model. Arms are paired by seed and image. The
arm that the verdict speaks of is chosen on validation images, its numbers come from test images.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.stages.compare import exchange, generator_level, machines, multipliers, segmenter_comparison, subgroups
from pipeline.stages.compare.arms import Arm, compare_arms, conclude_arms
from pipeline.stages.compare.chosen_again import with_other_choice
from pipeline.stages.compare.claim import Claim, headline, with_harm
from pipeline.stages.compare.components import NoiseComponents, noise_components
from pipeline.stages.compare.confirmation import read_confirmation
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.exchange import ExchangeRates
from pipeline.stages.compare.exchange_rows import LearningPoint, Rate, rates_as_metrics
from pipeline.stages.compare.generator_level import TreatmentEffect, conclude_treatments
from pipeline.stages.compare.machines import Machine
from pipeline.stages.compare.multipliers import Choice, CurvePoint, MultiplierTrend
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.results import METRICS, Record, Results, ResultsReader, read_results
from pipeline.stages.compare.rivals import with_rival
from pipeline.stages.compare.segmenter_comparison import SegmenterScore
from pipeline.stages.compare.sentence import failed_controls, sentence, withdraw_claims, withdraw_headline, withdrawn
from pipeline.stages.compare.subgroups import SubgroupDifference
from pipeline.stages.compare.verdict import conclude
from pipeline.stages.finetune.params import rival_generators
from pipeline.stages.mix.treatments import Treatment, treatments
from pipeline.study import Params


@dataclass(frozen=True)
class Comparison:
    """The result of the stage compare."""

    arms: list[Arm]
    curve: list[CurvePoint]
    choice: list[Choice]
    trend: list[MultiplierTrend]
    generator_seeds: list[TreatmentEffect]
    compare: Compare
    headline: Claim | None  # what the verdict speaks of
    verdict: str
    verdicts: Mapping[str, str]  # by segmenter
    noise: Sequence[NoiseComponents] = ()  # by segmenter, for planning
    segmenters: list[SegmenterScore] = field(default_factory=list)
    segmenters_verdict: str | None = None
    subgroups: list[SubgroupDifference] = field(default_factory=list)
    exchange: Sequence[ExchangeRates] = ()  # by segmenter; nothing where no training sets differ in `limit`

    def record(self) -> Record:
        """Return what comparison.json holds; of segmenters and subgroups only where they are compared."""
        settings = self.compare.model_dump(mode="json", exclude_none=True)
        record = {
            "arms": [arm.record() for arm in self.arms],
            "curve": [asdict(point) for point in self.curve],
            "choice": [asdict(row) for row in self.choice],
            "trend": [asdict(row) for row in self.trend],
            "generator_seeds": [row.record() for row in self.generator_seeds],
            "headline": self.headline.record() if self.headline else None,
            "verdict": self.verdict,
            "verdicts": dict(self.verdicts),
            "noise": [asdict(row) for row in self.noise],
            "about": {"primary": "dice", **settings},
        }
        if self.segmenters:
            record["segmenters"] = [row.record() for row in self.segmenters]
            record["segmenters_verdict"] = self.segmenters_verdict
        if self.subgroups:
            record["subgroups"] = [row.record() for row in self.subgroups]
        return record | exchange.record(self.exchange)


def _columns(row: type[Any]) -> tuple[str, ...]:
    return tuple(column.name for column in fields(row))


TABLES = {
    "curve": ("multiplier_curve.csv", _columns(CurvePoint)),
    "choice": ("choice.csv", _columns(Choice)),
    "trend": ("trend.csv", _columns(MultiplierTrend)),
    "generator_seeds": ("generator_seeds.csv", generator_level.COLUMNS),
    "segmenters": ("segmenters.csv", segmenter_comparison.COLUMNS),
    "subgroups": ("subgroups.csv", subgroups.COLUMNS),
    "learning_curve": ("learning_curve.csv", _columns(LearningPoint)),
    "exchange": ("exchange.csv", _columns(Rate)),
}
EXCHANGE = ("exchange", "learning_curve", "learning_fits")  # what exchange.json holds


def compare(params: Params, read: ResultsReader | None = None) -> Comparison:
    """Compare arms, and segmenters where asked for; `read` defaults to the scores of this study.

    With scores from elsewhere, the sentence rests on these alone, without the confirmation of the study. Raises
    UserError without a score.
    """
    confirmation = read_confirmation(params.study) if read is None and params.confirm else None
    pairs = exchange.pair_counts(params.study, params.seed, params.training_sets) if read is None else {}
    read = read or partial(read_results, params.study, params.segment.seeds)
    others = rival_generators(params.generators)
    design = Design(params.compare, params.training_sets, len(params.segmenters), params.seed, others)
    grouped = treatments(params.training_sets, params.generators, design.reference)
    arms, effects = list[Arm](), list[TreatmentEffect]()
    choice, trend = list[Choice](), list[MultiplierTrend]()
    noise: list[NoiseComponents | None] = []
    cells: list[Machine] = []
    grids: dict[str, Results] = {}
    for segmenter in params.segmenters:
        results = grids[segmenter] = read(segmenter, list(params.training_sets))
        machines.check_arms(segmenter, results.machines, design.reference)
        cells += results.machines.values()
        arms += compare_arms(design, segmenter, results)
        choice += multipliers.choices(design, segmenter, results)
        trend += multipliers.trends(design, segmenter, results)
        effects += generator_level.treatment_effects(design, grouped, params.generators, segmenter, results)
        noise.append(noise_components(design, segmenter, grouped, results))
    machines.mention_unknown(cells)
    arms, effects = conclude_arms(arms, params.compare), conclude_treatments(effects, params.compare)
    confirmed = _confirmed(design, confirmation)
    segmenters = segmenter_comparison.compare_segmenters(params.compare, list(params.segmenters), params.seed, read)
    segmenters_verdict = segmenter_comparison.sentence(segmenters, params.compare) if segmenters else None
    of_subgroups = _subgroups(params.study, design, arms, grids, confirmation)

    def claimed(rows: Sequence[Arm]) -> Claim | None:
        claim = with_other_choice(headline(rows, grouped, effects, confirmed), rows, grids, grouped)
        claim = claim and _completed(claim, design, grids)
        return with_harm(with_rival(claim, design, arms, grids, confirmation), of_subgroups)

    claim = claimed(arms)
    verdict, verdicts = segmenters_verdict or "", {}
    if claim or not segmenters_verdict:
        verdict = sentence(claim, arms, params.compare)
        by_segmenter = {name: [arm for arm in arms if arm.segmenter == name] for name in params.segmenters}
        verdicts = {name: sentence(claimed(rows), rows, params.compare) for name, rows in by_segmenter.items()}
    return Comparison(
        withdraw_claims(arms),
        multipliers.multiplier_curve(design, arms),
        choice,
        trend,
        [withdrawn(one, failed_controls(arms, one.spread.segmenter)) for one in effects],
        params.compare,
        claim and withdraw_headline(claim, failed_controls(arms, claim.segmenter)),
        verdict,
        verdicts,
        [one for one in noise if one],
        segmenters,
        segmenters_verdict,
        of_subgroups,
        exchange.rates_by_segmenter(design, params.generators, pairs, grids, arms),
    )


def _completed(claim: Claim, design: Design, grids: Mapping[str, Results]) -> Claim:
    """Return a claim with its reference and the number of pooled folds."""
    return replace(claim, reference=design.reference_of(claim.training_sets[0]), folds=grids[claim.segmenter].folds)


def _confirmed(design: Design, confirmation: tuple[Record, Results] | None) -> Claim | None:
    """Return the claim of models with fresh seeds: one difference, decided at the full level."""
    if confirmation is None:
        return None
    choice, results = confirmation
    treatment = Treatment(tuple(choice["training_sets"]))
    evidence = generator_level.treatment_evidence(design, treatment, results)
    (conclusion,) = conclude([evidence], design.compare)
    return Claim(choice["segmenter"], treatment.training_sets, evidence, conclusion, confirmed=True)


def _subgroups(
    study: str,
    design: Design,
    arms: Sequence[Arm],
    grids: Mapping[str, Results],
    confirmation: tuple[Record, Results] | None,
) -> list[SubgroupDifference]:
    """Return the comparison by subgroup; where a control failed, its segmenter's rows have no verdict."""
    attributes = subgroups.read_attributes(study, design.compare)
    rows = subgroups.compare_subgroups(design, attributes, grids, confirmation)
    return [withdrawn(row, failed_controls(arms, row.segmenter)) for row in rows]


def publish_comparison(study: str, comparison: Comparison) -> None:
    """Publish arms.csv, the TABLES of what the comparison holds, and comparison.json."""
    record = comparison.record()
    folder, arms = paths.work("compare", files.fingerprint(record)), record["arms"]
    columns = [key for key in max(arms, key=len) if not isinstance(arms[0].get(key), Mapping)]
    tables.write_table(folder / "arms.csv", [_line(row, columns) for row in arms])
    for key, (name, header) in TABLES.items():
        if key in record:
            tables.write_table(folder / name, [_line(row, header) for row in record[key]], header)
    if "exchange" in record:
        files.write_json(folder / "exchange.json", {key: record[key] for key in EXCHANGE})
    files.write_json(folder / "comparison.json", record)
    files.publish(folder, paths.comparison(study))


def read_comparison(study: str) -> Record:
    """Return comparison.json of a study. Raises UserError where the stage compare has not run."""
    return read_output(paths.comparison(study) / "comparison.json")


def collect_numbers(study: str, generators: Sequence[str], *, has_judge: bool) -> Record:
    """Return what numbers.json of a report holds: arms, judge.dice, faithfulness by generator and shuffled, verdict.

    Judge and faithfulness only where the study has them, segmenters and subgroups only where they are compared.
    """
    comparison = read_comparison(study)
    scores = {name: read_output(paths.scores(study, name) / "metrics.json") for name in generators}
    faithfulness = {name: score.get("faithfulness") for name, score in scores.items()}
    shuffled = [
        score["faithfulness_shuffled"] for score in scores.values() if score.get("faithfulness_shuffled") is not None
    ]
    metrics: Record = {"arms": arms_as_metrics(comparison["arms"])}
    if has_judge:
        metrics["judge"] = {"dice": read_output(paths.judge(study) / "metrics.json")["dice"]}
    if generators:
        metrics["faithfulness"] = {**faithfulness, "shuffled": float(np.mean(shuffled)) if shuffled else None}
    if comparison.get("segmenters"):
        metrics["segmenters"] = segmenters_as_metrics(comparison["segmenters"])
    if comparison.get("subgroups"):
        metrics["subgroups"] = subgroups.as_metrics(comparison["subgroups"])
    if comparison.get("exchange"):
        metrics["exchange"] = rates_as_metrics(comparison["exchange"])
    return metrics | {"verdict": comparison["verdict"]}


def arms_as_metrics(rows: Iterable[Record]) -> Record:
    """Return arms.<segmenter>.<training_set>.{dice,iou}.{mean,low,high} of the arms of a comparison."""
    tree: Record = defaultdict(dict)
    for row in rows:
        tree[row["segmenter"]][row["training_set"]] = {
            metric: {"mean": row[metric], "low": row[f"{metric}_low"], "high": row[f"{metric}_high"]}
            for metric in METRICS
        }
    return dict(tree)


def segmenters_as_metrics(rows: Iterable[Record]) -> Record:
    """Return segmenters.<metric>.<segmenter>.{mean,low,high,verdict} of a comparison of segmenters."""
    tree: Record = defaultdict(dict)
    for row in rows:
        tree[row["metric"]][row["segmenter"]] = {key: row[key] for key in ("mean", "low", "high", "verdict")}
    return dict(tree)


def read_output(path: Path) -> Any:
    """Read a JSON file that a stage publishes. Raises UserError where the stage has not run."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage that makes it (dvc repro runs all missing ones)")
    return files.read_json(path)


def _line(row: Record, columns: Iterable[str]) -> Record:
    return {key: _rounded(row.get(key)) for key in columns}


def _rounded(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value
