"""Scores of the finished grid of one segmenter as tables [seeds, images], and which images belong together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.data import manifest
from pipeline.metrics.statistics.paired import by_cluster, membership
from pipeline.study import Params

Table = NDArray[np.float64]  # [seeds, images]
Row = dict[str, Any]
METRICS = ("dice", "iou")
SPLITS = ("val", "test")
NAMES = ("segmenter", "training_set", "seed", "split", "test_set", "image", "area")  # columns that are no metric


@dataclass(frozen=True)
class Results:
    """All scores of one segmenter."""

    tables: Mapping[tuple[str, str, str], Table]  # (training set, split, metric) -> [seeds, images]
    seeds: tuple[str, ...]
    images: Mapping[str, tuple[tuple[str, str], ...]]  # split -> (test set, image) in the order of the columns
    clusters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # split -> patient or sequence of each image

    def units(self, split: str) -> tuple[str, ...]:
        """What is drawn at random in a split: clusters where they are known, else images."""
        return self.clusters.get(split) or tuple(f"{place}" for place in range(len(self.images[split])))

    def by_unit(self, table: Table, split: str) -> Table:
        """A table of a split as [seeds, units]."""
        return by_cluster(table, self.units(split)) if split in self.clusters else table

    def sums(self, values: NDArray[np.float64], split: str) -> NDArray[np.float64]:
        """Values of images summed by unit."""
        if split not in self.clusters:
            return values
        return values @ membership(self.units(split))


class Reader(Protocol):
    """read_results, or what reads the folds of a cross-validation in its place."""

    def __call__(
        self, params: Params, segmenter: str, arms: Sequence[str] | None = None, metrics: Sequence[str] = METRICS
    ) -> Results: ...


def read_results(
    params: Params, segmenter: str, arms: Sequence[str] | None = None, metrics: Sequence[str] = METRICS
) -> Results:
    """Reads scores.csv of one segmenter (None: every arm). A metric of METRICS has a value for every image; else NaN.

    Raises UserError naming the first arm, seed and image without a score, or the metric that is no column.
    """
    files.check(paths.segmentation(params.study, segmenter))
    path = paths.segmentation(params.study, segmenter) / "scores.csv"
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage segment for {segmenter}")
    found: dict[tuple[str, str, str], dict[tuple[str, str], Row]] = defaultdict(dict)
    images: dict[str, dict[tuple[str, str], None]] = defaultdict(dict)
    for row in tables.read_table(path):
        image = row["test_set"], row["image"]
        found[row["training_set"], row["split"], row["seed"]][image] = row
        images[row["split"]][image] = None
    if missing := set(SPLITS) - set(images):
        raise UserError(f"{path} holds no image of the splits {', '.join(sorted(missing))}; run segment again")
    seeds = [str(seed) for seed in params.segment.seeds]
    arrays = {
        (arm, split, metric): _table(found, (arm, split, metric), seeds, list(names), str(path))
        for arm in (params.training_sets if arms is None else arms)
        for split, names in images.items()
        for metric in metrics
    }
    columns = {split: tuple(names) for split, names in images.items()}
    return Results(arrays, tuple(seeds), columns, _clusters(params.study, columns))


def _clusters(study: str, images: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, tuple[str, ...]]:
    """The group of every image of the real set's manifest, its own id where it has none; nothing without groups."""
    groups = {row["id"]: row["group"] for row in manifest.read(paths.real(study)) if row.get("group")}
    if not groups:
        return {}
    return {split: tuple(groups.get(name, name) for _, name in names) for split, names in images.items()}


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
        if absent := [name for name in images if cell[name].get(metric, "") == ""]:
            _check_metric(metric, cell[absent[0]], f"{arm}, seed {seed}, {split} image {absent[0][1]!r}", where)
    told = [[found[arm, split, seed][name][metric] for name in images] for seed in seeds]
    return np.array([[float(value) if value != "" else np.nan for value in row] for row in told])


def _check_metric(metric: str, row: Row, what: str, where: str) -> None:
    """Raises UserError for a metric that is no column, or has no value where it must have one."""
    if metric not in row:
        there = ", ".join(key for key in row if key not in NAMES)
        raise UserError(f"{where} has no column {metric!r}; there are: {there}")
    if metric in METRICS:
        raise UserError(f"{where} has no {metric} of {what}; run segment again")
