"""What a paper claims beside what its study has measured.

Means and intervals are those of the stage compare, for any column of scores.csv. Scores that are no mean over images
(pooled pixels), and differences in percent, have no interval.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pipeline.core import paths, tables
from pipeline.metrics.statistics.paired import estimate
from pipeline.stages.compare.arms import paired_difference
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.results import Results, estimate_mean, read_results
from pipeline.stages.compare.segmenter_comparison import pair_scores
from pipeline.stages.report.paper_claims import FACTORS, RELATIVE, Cell, read_claims

POOLED = "_pooled"


@dataclass(frozen=True)
class ScoredStudy:
    """What a claim is looked up in."""

    name: str
    segmenters: Collection[str]
    seeds: Sequence[int]
    design: Design

    def results(self, segmenter: str, training_sets: Sequence[str], score: str) -> Results:
        """Return the scores of images in one column of scores.csv."""
        return read_results(self.name, self.seeds, segmenter, training_sets, [score])

    def mean(self, segmenter: str, training_set: str, score: str) -> float | None:
        """Return the mean over all test images and seeds in protocol.csv; None where there is none."""
        for line in tables.read_table(paths.segmentation(self.name, segmenter) / "protocol.csv"):
            if (line["training_set"], line["kind"]) == (training_set, "weighted"):
                return float(line[score]) if line.get(score) else None
        return None


@dataclass(frozen=True)
class Measured:
    """What the study has measured, in the unit of the paper."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ClaimRow:
    """One claim with what stands beside it, and of which entries that is, as "a" or "a minus b"."""

    cell: Cell
    segmenter: str
    training_set: str
    measured: Measured


@dataclass(frozen=True)
class ClaimTable:
    """The claims of one paper, and in which way its protocol differs from that of the study."""

    paper: str
    differences: str
    rows: list[ClaimRow]


def claim_tables(study: ScoredStudy) -> list[ClaimTable]:
    """Return a table per paper that claims something which this study has measured. Raises UserError."""
    shown = []
    for paper in read_claims(study.name):
        rows = [_row(study, cell, found) for cell in paper.cells if (found := measure(study, cell)) is not None]
        if rows:
            shown.append(ClaimTable(paper.paper, paper.differences, rows))
    return shown


def _row(study: ScoredStudy, cell: Cell, measured: Measured) -> ClaimRow:
    minus = f" minus {cell.against}" if cell.against else ""
    if cell.against in study.segmenters:
        return ClaimRow(cell, cell.segmenter + minus, cell.training_set, measured)
    return ClaimRow(cell, cell.segmenter, cell.training_set + minus, measured)


def measure(study: ScoredStudy, cell: Cell) -> Measured | None:
    """Return what corresponds to a claim; None where the study lacks the entries or the score."""
    if cell.segmenter not in study.segmenters or cell.training_set not in study.design.training_sets:
        return None
    if cell.against and cell.against not in (study.design.reference, *study.segmenters):
        return None
    mean = study.mean(cell.segmenter, cell.training_set, cell.score)
    if mean is None:
        return None
    if cell.unit == RELATIVE or cell.score.endswith(POOLED):
        return _from_means(study, cell, mean)
    return _with_interval(study, cell)


def _from_means(study: ScoredStudy, cell: Cell, mean: float) -> Measured | None:
    """Return a value, or a difference of two, from the means of protocol.csv."""
    if not cell.against:
        return Measured(FACTORS[cell.unit] * mean)
    if cell.against in study.segmenters:
        other = study.mean(cell.against, cell.training_set, cell.score)
    else:
        other = study.mean(cell.segmenter, cell.against, cell.score)
    if other is None:
        return None
    difference = FACTORS[cell.unit] * (mean - other)
    if cell.unit != RELATIVE:
        return Measured(difference)
    return Measured(difference / other) if other else None


def _with_interval(study: ScoredStudy, cell: Cell) -> Measured:
    """Return a mean over images, or a paired difference, with its interval for new seeds and new images."""
    confidence, name, score = study.design.compare.confidence, cell.training_set, cell.score
    if cell.against and cell.against not in study.segmenters:  # the reference training set
        results = study.results(cell.segmenter, list(study.design.training_sets), score)
        difference = paired_difference(study.design, name, results, score)
        found = estimate(difference.units, difference.noise, confidence)
    else:
        own = study.results(cell.segmenter, [name], score)
        other = study.results(cell.against, [name], score) if cell.against else own
        pair = pair_scores(own, other, (name, "test", score))  # leaves out images without a score
        if cell.against:
            difference = pair.difference()
            found = estimate(difference.units, difference.noise, confidence)
        else:
            found = estimate_mean(pair.by_unit(pair.scores), score, confidence)
    factor = FACTORS[cell.unit]
    return Measured(factor * found.mean, factor * found.low, factor * found.high)
