"""Segmenters compared with each other on one training set: every entry against the reference entry, metric by metric.

The statistics are those of arms: intervals for new seeds and new images, sign flips, equivalence, harm, power, Holm's
correction (over the segmenters, each metric for itself). Beside them stands the paired t-test over cases of the papers,
which speaks of these trained networks only. Segmenters differ in their weights, so their seeds have nothing in common.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.core import seeding
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.metrics.statistics.paired import (
    Noise,
    Table,
    by_cluster,
    membership,
    unpaired_noise,
)
from pipeline.stages.compare import machines
from pipeline.stages.compare.paired_difference import (
    Evidence,
    ImageEffect,
    PairedDifference,
    RequiredSizes,
    bootstrap_interval,
    image_effect,
    required_sizes,
    weigh_evidence,
)
from pipeline.stages.compare.params import (
    Compare,
    SegmenterComparison,
    base_metric,
    common_training_set,
)
from pipeline.stages.compare.results import Record, Results, ResultsReader, estimate_mean
from pipeline.stages.compare.verdict import Conclusion, Verdict, close_call, conclude

COLUMNS = (
    *("metric", "segmenter", "role", "training_set", "n_images", "n_units", "n_seeds", "mean", "low", "high"),
    *("val_mean", "seed_sd", "difference", "difference_low", "difference_high", "bootstrap_low", "bootstrap_high"),
    *("p", "p_holm", "p_images", "p_images_holm", "p_equivalent", "p_equivalent_holm"),
    *("t", "p_t", "t_significant", "effect_size"),
    *("share_improved", "worst_tenth", "images_needed", "seeds_needed", "detectable", "verdict", "reason"),
)
TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "NSD",
    "hd95": "HD95",
    "ged": "GED",
    "hm_iou": "HM-IoU",
    "s_c": "S_c",
    "d_max": "D_max",
    "d_a": "D_a",
    "ci_printed": "CI as printed",
    "ci_harmonic": "CI as harmonic mean",
}


@dataclass(frozen=True)
class PairedScores:
    """Test scores [seeds, images] of a segmenter and of the reference, without images that either has no score of.

    `units` is what is drawn at random (a patient, else the image) of each image, None where that is the image.
    """

    scores: Table
    reference: Table
    units: tuple[str, ...] | None

    def difference(self) -> PairedDifference:
        """Return the scores minus those of the reference."""
        images = self.scores - self.reference
        units = self.by_unit(images)
        return PairedDifference(images, units, self.sums(images.mean(0)), float(units.mean()), self._noise())

    def _noise(self) -> Noise:
        return unpaired_noise(self.by_unit(self.scores), self.by_unit(self.reference))

    def by_unit(self, table: Table) -> Table:
        """Return a table [seeds, images] as [seeds, units]."""
        return table if self.units is None else by_cluster(table, self.units)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum values of images by unit."""
        return values if self.units is None else values @ membership(self.units)


@dataclass(frozen=True)
class TTest:
    """Student's paired t-test over cases; None where it says nothing."""

    t: float | None = None
    p_t: float | None = None
    t_significant: bool | None = None


@dataclass(frozen=True)
class SegmenterDifference:
    """A segmenter's difference to the reference in one metric; the verdict comes last."""

    evidence: Evidence
    bootstrap_low: float
    bootstrap_high: float
    effect: ImageEffect
    t_test: TTest
    sizes: RequiredSizes
    conclusion: Conclusion | None = None

    def record(self) -> Record:
        """Return the columns of the difference."""
        record: Record = {"bootstrap_low": self.bootstrap_low, "bootstrap_high": self.bootstrap_high}
        for part in (self.evidence, self.effect, self.t_test, self.sizes, self.conclusion):
            record |= asdict(part) if part else {}
        return record


@dataclass(frozen=True)
class SegmenterScore:
    """One segmenter in one metric: its mean, and its difference to the reference, which has none itself."""

    metric: str
    segmenter: str
    role: str  # reference or segmenter
    training_set: str
    n_images: int
    n_units: int
    n_seeds: int
    mean: float
    low: float
    high: float
    val_mean: float | None
    seed_sd: float | None
    difference: SegmenterDifference | None = None

    def record(self) -> Record:
        """Return one row of segmenters.csv and comparison.json, whose columns are COLUMNS."""
        record = {field.name: getattr(self, field.name) for field in fields(self)[:-1]}
        return record | (self.difference.record() if self.difference else {"verdict": None})


def compare_segmenters(
    compare: Compare, segmenters: Sequence[str], seed: int, read: ResultsReader
) -> list[SegmenterScore]:
    """Compare every segmenter with the reference, metric by metric; nothing where none is asked for.

    `seed` is the study's.
    """
    section = compare.segmenters
    if section is None:
        return []
    results = {name: read(name, [common_training_set(compare)], section.metrics) for name in segmenters}
    cells = {name: result.machines for name, result in results.items()}
    machines.check_segmenters(cells, common_training_set(compare), section.reference)
    rows: list[SegmenterScore] = []
    for metric in track(section.metrics, "compare segmenters"):
        scores = [_score(compare, section, metric, name, results, seed) for name in segmenters]
        rows += _concluded(scores, compare, section.sign(metric))
    return rows


def pair_scores(segmenter: Results, reference: Results, key: tuple[str, str, str]) -> PairedScores:
    """Pair the scores of two segmenters under (training set, split, metric). Raises UserError where they do not fit."""
    training_set, split, metric = key
    if segmenter.images[split] != reference.images[split]:
        raise UserError(f"the segmenters were not scored on the same {split} images; run the stage segment again")
    tables = segmenter.tables[key], reference.tables[key]
    scored = ~np.asarray(np.isnan(np.stack(tables)).any((0, 1)))
    if not scored.any():
        raise UserError(f"no {split} image has a {metric} by both segmenters on {training_set}; choose another metric")
    units = None
    if split in segmenter.clusters:
        units = tuple(unit for unit, keep in zip(segmenter.clusters[split], scored, strict=True) if keep)
    return PairedScores(tables[0][:, scored], tables[1][:, scored], units)


def paired_t_test(pair: PairedScores, alpha: float) -> TTest:
    """Return Student's paired t-test over cases (units), each the mean over seeds; None where it says nothing."""
    scores, reference = pair.by_unit(pair.scores).mean(0), pair.by_unit(pair.reference).mean(0)
    if len(scores) < 2 or np.ptp(scores - reference) == 0:
        return TTest()
    result: Any = stats.ttest_rel(scores, reference)
    return TTest(float(result.statistic), float(result.pvalue), bool(result.pvalue < alpha))


def sentence(rows: Sequence[SegmenterScore], compare: Compare) -> str:
    """Return the verdict of a comparison of segmenters: on the primary metric, every segmenter under its verdict."""
    section = compare.segmenters
    assert section is not None
    primary = [row for row in rows if row.metric == section.metrics[0] and row.difference is not None]
    groups = {verdict: [row for row in primary if _verdict(row) == verdict] for verdict in Verdict}
    parts = [
        f"{verdict}: " + ", ".join(_numbers(row, compare) for row in group)
        for verdict, group in groups.items()
        if group
    ]
    seeds = primary[0].n_seeds
    count = f"n = {primary[0].n_images} images, {seeds} seed{'s' if seeds != 1 else ''}"
    reasons = dict.fromkeys(_reason(row) for row in primary)
    caveat = "".join(f" {reason}" for reason in reasons if reason)
    subject = f"{title(section.metrics[0])} against {section.reference}, all trained on {common_training_set(compare)}"
    return f"{subject} ({count}): {'; '.join(parts)}.{caveat}"


def title(metric: str) -> str:
    """Return a metric's name in words."""
    name = base_metric(metric)
    suffix = metric.removeprefix(name).removesuffix("_left_out")
    words = TITLES.get(name, name.replace("_", " ")) + suffix.replace("_", " of class ")
    return f"{words} without empty masks" if metric.endswith("_left_out") else words


def _verdict(row: SegmenterScore) -> Verdict | None:
    return row.difference.conclusion.verdict if row.difference and row.difference.conclusion else None


def _reason(row: SegmenterScore) -> str | None:
    return row.difference.conclusion.reason if row.difference and row.difference.conclusion else None


def _numbers(row: SegmenterScore, compare: Compare) -> str:
    assert row.difference and row.difference.conclusion
    evidence = row.difference.evidence
    interval = f"[{evidence.difference_low:.3f}, {evidence.difference_high:.3f}]"
    close = close_call(evidence, row.difference.conclusion, compare)
    return f"{row.segmenter} {evidence.difference:+.3f} {interval}" + (f" ({close})" if close else "")


def _score(
    compare: Compare, section: SegmenterComparison, metric: str, name: str, results: dict[str, Results], seed: int
) -> SegmenterScore:
    """Return the means of one segmenter, and, without a verdict yet, its difference to the reference."""
    training_set = common_training_set(compare)
    pair = pair_scores(results[name], results[section.reference], (training_set, "test", metric))
    units, is_reference = pair.by_unit(pair.scores), name == section.reference
    mean = estimate_mean(units, metric, compare.confidence)
    return SegmenterScore(
        metric,
        name,
        "reference" if is_reference else "segmenter",
        training_set,
        n_images=pair.scores.shape[1],
        n_units=units.shape[1],
        n_seeds=len(units),
        mean=mean.mean,
        low=mean.low,
        high=mean.high,
        val_mean=_mean(results[name].tables[training_set, "val", metric]),
        seed_sd=float(pair.scores.mean(1).std(ddof=1)) if len(units) > 1 else None,
        difference=None if is_reference else _difference(compare, section, metric, name, pair, len(results) - 1, seed),
    )


def _difference(
    compare: Compare,
    section: SegmenterComparison,
    metric: str,
    name: str,
    pair: PairedScores,
    comparisons: int,
    seed: int,
) -> SegmenterDifference:
    difference, margin = pair.difference(), section.margin(metric, compare.margin)
    rng = seeding.numpy_rng(seed, "compare", "segmenters", metric, name)
    n_images, n_units = pair.scores.shape[1], difference.units.shape[1]
    return SegmenterDifference(
        weigh_evidence(difference, compare, margin, seed),
        *bootstrap_interval(difference, compare, rng),
        effect=image_effect(difference, section.sign(metric)),
        t_test=paired_t_test(pair, section.alpha),
        sizes=required_sizes(
            difference, compare, margin, comparisons, to_images=lambda units: units * n_images / n_units
        ),
    )


def _mean(table: Table) -> float | None:
    scored = table[~np.isnan(table)]
    return float(scored.mean()) if scored.size else None


def _concluded(scores: Sequence[SegmenterScore], compare: Compare, sign: int) -> list[SegmenterScore]:
    """Return the scores of one metric with p-values adjusted over the segmenters (Holm) and each one's verdict."""
    conclusions = iter(conclude([one.difference.evidence for one in scores if one.difference], compare, sign))
    return [
        replace(one, difference=replace(one.difference, conclusion=next(conclusions))) if one.difference else one
        for one in scores
    ]
