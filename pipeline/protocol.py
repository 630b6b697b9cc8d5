"""The summary of a grid by the field's protocols: per test set, seen, unseen, weighted by images, macro, small lesions.

Scores of one arm are averaged over seeds and images. Everything here is of test images; choices are made on validation.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.segment_params import Segment

Row = dict[str, Any]
METRICS = ("dice", "iou", "jaccard_65", "nsd", "hd95", "dice_swept", "iou_swept")  # of each image, see scoring
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


def report(lines: Sequence[Row], chosen: Segment) -> Row:
    """The same for a report: what the numbers mean, and the rows."""
    unit = "mm" if chosen.spacing else "pixels"
    about = {
        "resolution": chosen.resolution,
        "nsd_tolerance": chosen.nsd_tolerance,  # share of the diagonal
        "hd95_unit": unit if chosen.resolution == "native" else "pixels of the training size",
        "unseen": list(chosen.unseen),
        "small_lesion": chosen.small_lesion,  # share of the image
    }
    return {"about": about, "rows": list(lines)}


def _arm(seeds: Sequence[Sequence[Row]], chosen: Segment) -> Iterator[Row]:
    """The lines of one arm; every seed has scored the same images in the same order."""
    first = seeds[0]
    values = {name: np.array([[_number(row[name]) for row in rows] for rows in seeds]) for name in METRICS}
    for group in groups(first, chosen):
        means = {name: group.mean(table) for name, table in values.items()}  # by seed
        line = {"segmenter": first[0]["segmenter"], "training_set": first[0]["training_set"]}
        line |= {"kind": group.kind, "name": group.name, "n": group.n, "seeds": len(seeds)}
        line |= {name: _rounded(of_seeds.mean()) for name, of_seeds in means.items()}
        yield line | {"dice_sd": _rounded(means["dice"].std(ddof=1)) if len(seeds) > 1 else None}


def _number(value: float | None) -> float:
    return np.nan if value is None else value


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
