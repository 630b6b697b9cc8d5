"""The summary of a grid by the field's protocols: per test set, seen, unseen, weighted by images, macro, small lesions.

Scores of one arm are averaged over seeds and images. Everything here is of test images; choices are made on validation.
What only some sets have (several raters, volumes, pooled pixels) has columns only there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.segmentation.pooled import Counts
from pipeline.metrics.statistics.correlation import spearman
from pipeline.segmentation.params import Segment
from pipeline.segmentation.rater_scoring import NAMES as RATED
from pipeline.segmentation.volume_scoring import LEFT_OUT, SIZES

Row = dict[str, Any]
METRICS = ("dice", "iou", "jaccard_65", "nsd", "hd95", "dice_swept", "iou_swept")  # of each image, see scoring
OPTIONAL_METRICS = (*RATED, "msd", *SIZES, *LEFT_OUT, "se", "sp", "acc")  # of each image of sets that have them
COLUMNS = ("segmenter", "training_set", "kind", "name", "n", "seeds", *METRICS, "dice_sd")


@dataclass(frozen=True)
class Group:
    """Test images that are told of together: the mean over `parts` of the mean over each part's images."""

    kind: str  # test_set, seen, unseen, weighted, macro, small_lesions, no_lesion
    name: str
    parts: tuple[NDArray[np.bool_], ...]

    @property
    def n(self) -> int:
        """How many images there are."""
        return int(np.any(self.parts, axis=0).sum())

    def mean(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values [..., images] -> [...]."""
        return np.mean([values[..., part].mean(-1) for part in self.parts], axis=0)

    def mean_of_told(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same over the images that have a value; not a number where a part has none."""
        told = ~np.isnan(values)
        counts = np.stack([told[..., part].sum(-1) for part in self.parts])
        sums = np.stack([np.where(told, values, 0)[..., part].sum(-1) for part in self.parts])
        return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan).mean(0)


def summary(rows: Sequence[Row], chosen: Segment) -> list[Row]:
    """One row of COLUMNS per arm and group of test images; `rows` are those of scores.csv, of one segmenter."""
    arms: dict[str, dict[Any, list[Row]]] = {}
    for row in rows:
        if row["split"] == "test":
            arms.setdefault(row["training_set"], {}).setdefault(row["seed"], []).append(row)
    return [line for arm in arms.values() for line in _arm(list(arm.values()), chosen)]


def groups(images: Sequence[Row], chosen: Segment) -> Iterator[Group]:
    """The groups of the test images, those without an image left out; seen and unseen only where a set is unseen."""
    sets, area = np.array([row["test_set"] for row in images]), np.array([row["area"] for row in images])
    names = list(dict.fromkeys(sets.tolist()))
    parts = tuple(sets == name for name in names)
    unseen = np.isin(sets, chosen.unseen)
    yield from (Group("test_set", name, (part,)) for name, part in zip(names, parts, strict=True))
    wholes = {"weighted": np.ones(len(images), bool)}
    if chosen.unseen:
        wholes = {"seen": ~unseen, "unseen": unseen} | wholes
    strata = {"small_lesions": (area > 0) & (area < chosen.small_lesion), "no_lesion": area == 0}
    yield from (Group(kind, "", (part,)) for kind, part in wholes.items() if part.any())
    yield Group("macro", "", parts)
    yield from (Group(kind, "", (part,)) for kind, part in strata.items() if part.any())


def columns(lines: Sequence[Row]) -> tuple[str, ...]:
    """COLUMNS and what else these rows of a summary hold."""
    return (*COLUMNS, *(name for name in (lines[0] if lines else ()) if name not in COLUMNS))


def report(lines: Sequence[Row], chosen: Segment, is_volume: bool = False) -> Row:
    """The same for a report: what the numbers mean, and the rows."""
    unit = "mm" if chosen.spacing else "pixels"
    about = {
        "resolution": chosen.resolution,
        "nsd_tolerance": chosen.nsd_tolerance,  # share of the diagonal
        "hd95_unit": unit if chosen.resolution == "native" else "pixels of the training size",
        "unseen": list(chosen.unseen),
        "small_lesion": chosen.small_lesion,  # share of the image
    }
    if is_volume:
        about |= {"nsd_tolerance": f"{chosen.nsd_tolerance_mm:g} mm", "hd95_unit": "mm"}
    return {"about": about, "rows": list(lines)}


def _arm(seeds: Sequence[Sequence[Row]], chosen: Segment) -> Iterator[Row]:
    """The lines of one arm; every seed has scored the same images in the same order."""
    first = seeds[0]
    values = {name: _table(seeds, name) for name in METRICS}
    further = {name: _table(seeds, name) for name in OPTIONAL_METRICS if name in first[0]}
    for group in groups(first, chosen):
        means = {name: group.mean(table) for name, table in values.items()}  # by seed
        line = {"segmenter": first[0]["segmenter"], "training_set": first[0]["training_set"]}
        line |= {"kind": group.kind, "name": group.name, "n": group.n, "seeds": len(seeds)}
        line |= {name: _rounded(of_seeds.mean()) for name, of_seeds in means.items()}
        line |= {"dice_sd": _rounded(means["dice"].std(ddof=1)) if len(seeds) > 1 else None}
        line |= {name: _rounded(group.mean_of_told(table).mean()) for name, table in further.items()}
        yield line | _pooled(seeds, group) | _by_size(seeds, group, chosen)


def _pooled(seeds: Sequence[Sequence[Row]], group: Group) -> Row:
    """dsc_pooled, se_pooled ... of all pixels of each part at once; means over parts, classes and seeds."""
    first = seeds[0][0]
    endings = [name.removeprefix("tp") for name in first if name == "tp" or name.startswith("tp_")]
    found = [
        sum((_counts(row, ending) for row in _part(rows, part)), Counts(0, 0, 0, 0))
        for ending in endings
        for rows in seeds
        for part in group.parts
    ]
    if not found:
        return {}
    scores = [counts.scores for counts in found]
    return {f"{name}_pooled": _rounded(float(np.mean([one[name] for one in scores]))) for name in scores[0]}


def _counts(row: Row, ending: str) -> Counts:
    return Counts(*(int(row[f"{name}{ending}"]) for name in ("tp", "fp", "fn", "tn")))


def _by_size(seeds: Sequence[Sequence[Row]], group: Group, chosen: Segment) -> Row:
    """Spearman's rho of a region's size with its Dice, mean over seeds: over all regions that are there, over classes.

    `size_rho` takes each foreground class of each image as a region; `class_rho` the means of each class (at least 3).
    """
    first = seeds[0][0]
    size = "volume" if "volume" in first else "area"
    if size == "area" and not chosen.region_size:
        return {}
    endings = [name.removeprefix("dice") for name in first if name.startswith("dice_") and name[5:].isdigit()] or [""]
    rhos, of_classes = [], []
    inside = np.any(group.parts, axis=0)
    for seed in seeds:
        rows = _part(seed, inside)
        classes = [[(row[size + end], row["dice" + end]) for row in rows if row[size + end] > 0] for end in endings]
        regions = [pair for one in classes for pair in one]
        means = [np.mean(one, axis=0) for one in classes if one]
        rhos.append(_number(spearman(*zip(*regions, strict=True)) if regions else None))
        of_classes.append(_number(spearman(*zip(*means, strict=True)) if means else None))
    told = {"size_rho": _rounded(float(np.mean(rhos)))}
    return told | ({"class_rho": _rounded(float(np.mean(of_classes)))} if len(endings) > 1 else {})


def _part(rows: Sequence[Row], inside: NDArray[np.bool_]) -> list[Row]:
    return [row for row, chosen in zip(rows, inside, strict=True) if chosen]


def _table(seeds: Sequence[Sequence[Row]], name: str) -> NDArray[np.float64]:
    """A score by seed and image; not a number where it has no value."""
    return np.array([[_number(row[name]) for row in rows] for rows in seeds])


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
