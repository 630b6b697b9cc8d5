"""Gains and harms by subgroup: every arm against the reference on the test images of one site, one lesion size ...

Each level of each column of compare.subgroups is a comparison of its own, by the paired tests of the whole test set on
the level's images; images of one group stay together. Holm's correction runs over everything that is named: columns,
levels, arms, segmenters, and the treatment that the stage confirm has trained again. Levels follow from a table about
the images or from the reference masks, never from scores.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import compress

import numpy as np

from pipeline.core import paths, tables
from pipeline.core.errors import UserError
from pipeline.stages.compare import arms
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.generator_level import treatment_evidence
from pipeline.stages.compare.levels import Level, levels
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.params import LESION_SIZE, SOURCE, Compare, check_resamples, column_of
from pipeline.stages.compare.results import Record, Results
from pipeline.stages.compare.verdict import Conclusion, Verdict, conclude, no_verdict
from pipeline.stages.mix.treatments import Treatment

COLUMNS = (
    *("column", "level", "definition", "segmenter", "training_set", "reference", "models", "n_images", "n_units"),
    *("n_seeds", "reference_dice", "dice", "difference", "difference_low", "difference_high"),
    *("p", "p_holm", "p_images", "p_images_holm", "p_equivalent", "p_equivalent_holm", "verdict", "reason"),
)
Attributes = Mapping[str, Mapping[str, str]]  # value by image id and column; an empty value is not known


@dataclass(frozen=True)
class SubgroupDifference:
    """An arm against the reference on the test images of one level. One row of subgroups.csv.

    A level with too few images or seeds for a verdict has a difference and a reason, but no interval and no p.
    """

    column: str
    level: str
    definition: str  # of the level in words, where its name is not enough
    segmenter: str
    training_sets: tuple[str, ...]  # one; of a confirmed treatment one for each trained generator
    reference: str  # with which they are compared
    confirmed: bool  # whether the models are those of the stage confirm
    n_images: int
    n_units: int
    n_seeds: int
    reference_dice: float
    dice: float
    difference: float
    evidence: Evidence | None = None
    conclusion: Conclusion | None = None
    reason: str | None = None  # why there can be no verdict

    @property
    def is_harmed(self) -> bool:
        """Whether the arm is worse than the reference here, by more than chance explains."""
        return self.conclusion is not None and self.conclusion.verdict == Verdict.WORSE

    def record(self) -> Record:
        """Return one row of subgroups.csv and comparison.json, whose columns are COLUMNS."""
        values = {name: getattr(self, name) for name in COLUMNS if hasattr(self, name)}
        values["training_set"] = " and ".join(self.training_sets)
        values["models"] = "confirmation" if self.confirmed else "grid"
        values |= (asdict(self.evidence) if self.evidence else {}) | {"reason": self.reason}
        values |= asdict(self.conclusion) if self.conclusion else {"verdict": str(Verdict.INCONCLUSIVE)}
        return {name: values.get(name) for name in COLUMNS}


def compare_subgroups(
    design: Design,
    attributes: Attributes,
    grids: Mapping[str, Results],
    confirmation: tuple[Record, Results] | None = None,
) -> list[SubgroupDifference]:
    """Compare every arm with the reference in every subgroup; nothing where compare.subgroups is empty.

    `attributes` and `confirmation` are what `read_attributes` and `read_confirmation` return, `grids` the results by
    segmenter. Raises UserError where a column cannot be divided into levels, and where there are more comparisons than
    compare.resamples allows.
    """
    rows = list(_rows(design, attributes, grids, confirmation)) if design.compare.subgroups else []
    return conclude_subgroups(rows, design.compare) if rows else []


def conclude_subgroups(rows: Sequence[SubgroupDifference], compare: Compare) -> list[SubgroupDifference]:
    """Return the rows with verdicts; p-values are adjusted over all that have evidence (Holm). Raises UserError."""
    family = [row.evidence for row in rows if row.evidence]
    try:
        check_resamples(compare, len(family))
    except ValueError as error:
        raise UserError(f"compare.subgroups: {error}, or name fewer subgroups") from None
    conclusions = iter(conclude(family, compare) if family else ())
    return [replace(row, conclusion=next(conclusions)) if row.evidence else row for row in rows]


def as_metrics(rows: Sequence[Record]) -> Record:
    """Return subgroups.<models>.<column>.<level>.<segmenter>.<training_set>.{difference,low,high,verdict}."""
    tree: Record = {}
    for row in rows:
        place = tree
        for key in ("models", "column", "level", "segmenter"):
            place = place.setdefault(row[key], {})
        ends = {"low": row["difference_low"], "high": row["difference_high"]}
        place[row["training_set"]] = {"difference": row["difference"], **ends, "verdict": row["verdict"]}
    return tree


def read_attributes(study: str, compare: Compare) -> Attributes:
    """Return attributes.csv of a study by image id; {} where no subgroup needs it. Raises UserError for a column."""
    columns = [column for column in map(column_of, compare.subgroups) if column not in (SOURCE, LESION_SIZE)]
    if not columns:
        return {}
    path = paths.attributes(study)
    rows = tables.read_table(path) if path.is_file() else []
    if absent := [name for name in columns if not rows or name not in rows[0]]:
        raise UserError(f"{path} has no column {absent[0]}; run the stage prepare again (dvc repro does)")
    return {row["id"]: row for row in rows}


def restricted(results: Results, level: Level) -> Results:
    """Return the results on the test images of one level; validation images stay as they are."""
    keep = level.images
    scores = {key: table[:, keep] if key[1] == "test" else table for key, table in results.tables.items()}
    images = {**results.images, "test": tuple(compress(results.images["test"], keep))}
    clusters = dict(results.clusters)
    if "test" in clusters:
        clusters["test"] = tuple(compress(clusters["test"], keep))
    return replace(results, tables=scores, images=images, clusters=clusters, areas={})


def _rows(
    design: Design,
    attributes: Attributes,
    grids: Mapping[str, Results],
    confirmation: tuple[Record, Results] | None,
) -> Iterator[SubgroupDifference]:
    """Yield every arm in every level, verdicts still open: of the grid, then of the confirmation."""
    names = [name for name in design.training_sets if design.is_arm(name)]
    for subgroup in design.compare.subgroups:
        for segmenter, results in grids.items():
            for level in levels(subgroup, results, attributes):
                part = restricted(results, level)
                for name in names:
                    about = subgroup_difference(level, segmenter, (name,), design, part)
                    yield _with_evidence(about, arms.evidence(design, name, part))
        if confirmation:
            choice, results = confirmation
            treatment = Treatment(tuple(choice["training_sets"]))
            for level in levels(subgroup, results, attributes):
                part = restricted(results, level)
                about = subgroup_difference(level, choice["segmenter"], treatment.training_sets, design, part)
                yield _with_evidence(replace(about, confirmed=True), treatment_evidence(design, treatment, part))


def subgroup_difference(
    level: Level, segmenter: str, training_sets: tuple[str, ...], design: Design, part: Results
) -> SubgroupDifference:
    """Return the means of an arm and of the reference on a level, `part` of the results; evidence is still missing."""
    dice = float(np.mean([part.tables[name, "test", "dice"] for name in training_sets]))
    own = design.reference_of(training_sets[0])
    reference = float(part.tables[own, "test", "dice"].mean())
    return SubgroupDifference(
        level.column,
        level.name,
        level.definition,
        segmenter,
        training_sets,
        own,
        confirmed=False,
        n_images=len(part.images["test"]),
        n_units=len(set(part.units("test"))),
        n_seeds=len(part.seeds),
        reference_dice=reference,
        dice=dice,
        difference=dice - reference,
    )


def _with_evidence(row: SubgroupDifference, evidence: Evidence) -> SubgroupDifference:
    """Return the row with its evidence, or with the reason why no verdict can rest on it."""
    reason = no_verdict(evidence)
    return replace(row, evidence=None, reason=reason) if reason else replace(row, evidence=evidence)
