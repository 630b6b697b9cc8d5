"""The summary of a grid by the field's protocols: per test set, seen, unseen, weighted by images, macro, small lesions.

Scores of one arm are averaged over seeds and images. All rows are about test images; choices are made on validation.
What only some sets have (several raters, volumes, pooled pixels) has columns only there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.segmentation.pooled import ConfusionCounts
from pipeline.metrics.statistics.correlation import spearman
from pipeline.segmentation.class_scores import ScoreRow
from pipeline.segmentation.params import Segment
from pipeline.segmentation.rater_scoring import NAMES as RATER_METRICS
from pipeline.segmentation.volume_scoring import LEFT_OUT, SIZES

METRICS = ("dice", "iou", "jaccard_65", "nsd", "hd95", "dice_swept", "iou_swept")  # of each image, see scoring
OPTIONAL_METRICS = (*RATER_METRICS, "msd", *SIZES, *LEFT_OUT, "se", "sp", "acc")  # of each image of sets that have them
COLUMNS = ("segmenter", "training_set", "kind", "name", "n", "seeds", *METRICS, "dice_sd")


@dataclass(frozen=True)
class Group:
    """Test images that are summarised together: the mean over `parts` of the mean over each part's images."""

    kind: str  # test_set, seen, unseen, weighted, macro, small_lesions, no_lesion
    name: str
    parts: tuple[NDArray[np.bool_], ...]

    @property
    def n(self) -> int:
        """The number of images."""
        return int(np.any(self.parts, axis=0).sum())

    def mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average values [..., images] -> [...]."""
        return np.mean([values[..., part].mean(-1) for part in self.parts], axis=0)

    def nan_mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Average values [..., images] -> [...] ignoring NaN; NaN where all values of a part are NaN."""
        valid = ~np.isnan(values)
        counts = np.stack([valid[..., part].sum(-1) for part in self.parts])
        sums = np.stack([np.where(valid, values, 0)[..., part].sum(-1) for part in self.parts])
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).mean(0)


@dataclass(frozen=True)
class SizeCorrelation:
    """Spearman's rho of the size of regions with their Dice, mean over seeds."""

    size_rho: float | None  # over all regions: each foreground class of each image
    class_rho: float | None  # over the means of each class; None with fewer than 3
    has_classes: bool  # whether there are several foreground classes

    def record(self) -> ScoreRow:
        """Return the columns; class_rho only where there are several foreground classes."""
        return {"size_rho": self.size_rho} | ({"class_rho": self.class_rho} if self.has_classes else {})


@dataclass(frozen=True)
class SummaryRow:
    """A line of protocol.csv: one arm on one group of test images."""

    segmenter: str
    training_set: str
    kind: str
    name: str
    n: int  # images
    seeds: int
    metrics: ScoreRow  # means, by METRICS
    dice_sd: float | None  # over seeds
    optional: ScoreRow  # means by OPTIONAL_METRICS, where the set has them
    pooled: ScoreRow  # dsc_pooled ..., where pixels are counted
    sizes: SizeCorrelation | None

    def record(self) -> ScoreRow:
        """Return the columns in their order."""
        row: ScoreRow = {"segmenter": self.segmenter, "training_set": self.training_set, "kind": self.kind}
        row |= {"name": self.name, "n": self.n, "seeds": self.seeds, **self.metrics, "dice_sd": self.dice_sd}
        return row | self.optional | self.pooled | (self.sizes.record() if self.sizes else {})


def summary(rows: Sequence[ScoreRow], segment: Segment) -> list[ScoreRow]:
    """Return one row of COLUMNS per arm and group of test images; `rows` are those of scores.csv, of one segmenter."""
    arms: dict[str, dict[Any, list[ScoreRow]]] = {}
    for row in rows:
        if row["split"] == "test":
            arms.setdefault(row["training_set"], {}).setdefault(row["seed"], []).append(row)
    return [line.record() for arm in arms.values() for line in _summarize_arm(list(arm.values()), segment)]


def groups(images: Sequence[ScoreRow], segment: Segment) -> Iterator[Group]:
    """Yield the groups of the test images that are not empty; seen and unseen only where a set is unseen."""
    sets, area = np.array([row["test_set"] for row in images]), np.array([row["area"] for row in images])
    names = list(dict.fromkeys(sets.tolist()))
    parts = tuple(sets == name for name in names)
    unseen = np.isin(sets, segment.unseen)
    yield from (Group("test_set", name, (part,)) for name, part in zip(names, parts, strict=True))
    unions = {"weighted": np.ones(len(images), bool)}
    if segment.unseen:
        unions = {"seen": ~unseen, "unseen": unseen} | unions
    strata = {"small_lesions": (area > 0) & (area < segment.small_lesion), "no_lesion": area == 0}
    yield from (Group(kind, "", (part,)) for kind, part in unions.items() if part.any())
    yield Group("macro", "", parts)
    yield from (Group(kind, "", (part,)) for kind, part in strata.items() if part.any())


def columns(lines: Sequence[ScoreRow]) -> tuple[str, ...]:
    """Return COLUMNS and the further columns of these rows of a summary."""
    return (*COLUMNS, *(name for name in (lines[0] if lines else ()) if name not in COLUMNS))


def report(lines: Sequence[ScoreRow], segment: Segment, is_volume: bool = False) -> ScoreRow:
    """Return the summary for a report: what the numbers mean, and the rows."""
    unit = "mm" if segment.spacing else "pixels"
    about = {
        "resolution": segment.resolution,
        "nsd_tolerance": segment.nsd_tolerance,  # fraction of the diagonal
        "hd95_unit": unit if segment.resolution == "native" else "pixels of the training size",
        "unseen": list(segment.unseen),
        "small_lesion": segment.small_lesion,  # fraction of the image
    }
    if is_volume:
        about |= {"nsd_tolerance": f"{segment.nsd_tolerance_mm:g} mm", "hd95_unit": "mm"}
    return {"about": about, "rows": list(lines)}


def _summarize_arm(seeds: Sequence[Sequence[ScoreRow]], segment: Segment) -> Iterator[SummaryRow]:
    """Yield the lines of one arm; every seed has scored the same images in the same order."""
    first = seeds[0]
    tables = {name: _table(seeds, name) for name in METRICS}
    optional = {name: _table(seeds, name) for name in OPTIONAL_METRICS if name in first[0]}
    for group in groups(first, segment):
        means = {name: group.mean(table) for name, table in tables.items()}  # by seed
        yield SummaryRow(
            segmenter=first[0]["segmenter"],
            training_set=first[0]["training_set"],
            kind=group.kind,
            name=group.name,
            n=group.n,
            seeds=len(seeds),
            metrics={name: _rounded(by_seed.mean()) for name, by_seed in means.items()},
            dice_sd=_rounded(means["dice"].std(ddof=1)) if len(seeds) > 1 else None,
            optional={name: _rounded(group.nan_mean(table).mean()) for name, table in optional.items()},
            pooled=_pooled(seeds, group),
            sizes=_size_correlation(seeds, group, segment),
        )


def _pooled(seeds: Sequence[Sequence[ScoreRow]], group: Group) -> ScoreRow:
    """Return dsc_pooled, se_pooled ... of all pixels of each part at once; means over parts, classes and seeds."""
    first = seeds[0][0]
    suffixes = [name.removeprefix("tp") for name in first if name == "tp" or name.startswith("tp_")]
    totals = [
        sum((_counts(row, suffix) for row in _select(rows, part)), ConfusionCounts(0, 0, 0, 0))
        for suffix in suffixes
        for rows in seeds
        for part in group.parts
    ]
    if not totals:
        return {}
    scores = [counts.scores for counts in totals]
    return {f"{name}_pooled": _rounded(float(np.mean([one[name] for one in scores]))) for name in scores[0]}


def _counts(row: ScoreRow, suffix: str) -> ConfusionCounts:
    return ConfusionCounts(*(int(row[f"{name}{suffix}"]) for name in ("tp", "fp", "fn", "tn")))


def _size_correlation(seeds: Sequence[Sequence[ScoreRow]], group: Group, segment: Segment) -> SizeCorrelation | None:
    """Correlate size and Dice of the regions that are present; None for pictures unless segment.region_size is set."""
    first = seeds[0][0]
    size = "volume" if "volume" in first else "area"
    if size == "area" and not segment.region_size:
        return None
    suffixes = [name.removeprefix("dice") for name in first if name.startswith("dice_") and name[5:].isdigit()] or [""]
    rhos, class_rhos = [], []
    inside = np.any(group.parts, axis=0)
    for seed in seeds:
        rows = _select(seed, inside)
        classes = [[(row[size + end], row["dice" + end]) for row in rows if row[size + end] > 0] for end in suffixes]
        regions = [pair for one in classes for pair in one]
        means = [np.mean(one, axis=0) for one in classes if one]
        rhos.append(_number(spearman(*zip(*regions, strict=True)) if regions else None))
        class_rhos.append(_number(spearman(*zip(*means, strict=True)) if means else None))
    size_rho, class_rho = (_rounded(float(np.mean(values))) for values in (rhos, class_rhos))
    return SizeCorrelation(size_rho, class_rho, len(suffixes) > 1)


def _select(rows: Sequence[ScoreRow], inside: NDArray[np.bool_]) -> list[ScoreRow]:
    return [row for row, is_inside in zip(rows, inside, strict=True) if is_inside]


def _table(seeds: Sequence[Sequence[ScoreRow]], name: str) -> NDArray[np.float64]:
    """Return a score by seed and image; NaN where it has no value."""
    return np.array([[_number(row[name]) for row in rows] for rows in seeds])


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
