"""Scores of the finished grid of one segmenter as tables [seeds, images], and which images belong together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.data import manifest
from pipeline.metrics.statistics.paired import (
    Estimate,
    Noise,
    Table,
    by_cluster,
    cluster_means,
    estimate,
    membership,
    seed_noise,
)
from pipeline.stages.compare.machines import Machines, read_machines
from pipeline.stages.compare.paired_difference import PairedDifference
from pipeline.stages.compare.params import DISTANCES, base_metric

Record = dict[str, Any]
Cells = Mapping[tuple[str, str, str], Mapping[tuple[str, str], Record]]  # by (training set, split, seed), then by image
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
    machines: Machines = field(default_factory=dict)  # where the cells were trained; {}: pooled from several studies
    areas: Mapping[str, tuple[float, ...]] = field(default_factory=dict)  # split -> share of foreground of each mask
    folds: int = 1  # studies that were pooled, each with generators of its own

    def units(self, split: str) -> tuple[str, ...]:
        """Return what is drawn at random in a split: clusters where they are known, else images."""
        return self.clusters.get(split) or tuple(f"{place}" for place in range(len(self.images[split])))

    def by_unit(self, table: Table, split: str) -> Table:
        """Return a table of a split as [seeds, units]."""
        return by_cluster(table, self.units(split)) if split in self.clusters else table

    def unit_means(self, table: Table, split: str) -> Table:
        """Return the plain means of a table of a split as [seeds, units], each unit's own and so fit for ranks."""
        return cluster_means(table, self.units(split)) if split in self.clusters else table

    def sums(self, values: NDArray[np.float64], split: str) -> NDArray[np.float64]:
        """Sum values of images by unit."""
        if split not in self.clusters:
            return values
        return values @ membership(self.units(split))

    def test_difference(self, images: Table, noise: Noise, generators: Table | None = None) -> PairedDifference:
        """Return differences of test scores [seeds, images], and [generators, images] if there are several, by unit."""
        return PairedDifference(
            images=images,
            units=self.by_unit(images, "test"),
            unit_sums=self.sums(images.mean(0), "test"),
            mean=float(images.mean()),
            noise=noise,
            generators=None if generators is None else self.by_unit(generators, "test"),
        )


def estimate_mean(scores: Table, metric: str, confidence: float) -> Estimate:
    """Return the mean of scores [seeds, units] with its interval, cut at the ends of the metric's scale."""
    mean = estimate(scores, seed_noise([scores]), confidence)
    most = np.inf if base_metric(metric) in (*DISTANCES, "ged") else 1.0
    return replace(mean, low=max(mean.low, 0.0), high=min(mean.high, most))


class ResultsReader(Protocol):
    """Read the results of one segmenter: `read_results` of a study, or what pools the folds of a cross-validation."""

    def __call__(self, segmenter: str, training_sets: Sequence[str], metrics: Sequence[str] = METRICS) -> Results: ...


def read_results(
    study: str, seeds: Sequence[int], segmenter: str, training_sets: Sequence[str], metrics: Sequence[str] = METRICS
) -> Results:
    """Read scores.csv of one segmenter. A metric of METRICS has a value for every image; others may be NaN.

    Raises UserError naming the first training set, seed and image without a score, or the metric that is no column.
    """
    files.check(paths.segmentation(study, segmenter))
    path = paths.segmentation(study, segmenter) / "scores.csv"
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage segment for {segmenter}")
    return read_cells(path, study, seeds, training_sets, metrics)


def read_cells(
    path: Path, study: str, seeds: Sequence[int], training_sets: Sequence[str], metrics: Sequence[str] = METRICS
) -> Results:
    """Read the scores.csv of an intact folder that the stage segment or confirm has published, as `read_results`."""
    cells: dict[tuple[str, str, str], dict[tuple[str, str], Record]] = defaultdict(dict)
    images: dict[str, dict[tuple[str, str], float]] = defaultdict(dict)
    for row in tables.read_table(path):
        image = row["test_set"], row["image"]
        cells[row["training_set"], row["split"], row["seed"]][image] = row
        images[row["split"]][image] = float(row.get("area") or np.nan)
    if missing := set(SPLITS) - set(images):
        lacking = ", ".join(sorted(missing))
        raise UserError(f"{path} holds no image of the splits {lacking}; run the stage that makes it again")
    seed_names = [str(seed) for seed in seeds]
    scores = {
        (training_set, split, metric): _table(cells, (training_set, split, metric), seed_names, list(names), str(path))
        for training_set in training_sets
        for split, names in images.items()
        for metric in metrics
    }
    columns = {split: tuple(names) for split, names in images.items()}
    machines = read_machines(path.parent, training_sets, seed_names)
    areas = {split: tuple(by_image.values()) for split, by_image in images.items()}
    return Results(scores, tuple(seed_names), columns, _clusters(study, columns), machines, areas)


def _clusters(study: str, images: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, tuple[str, ...]]:
    """Return the group of every image of the real set's manifest, its own id where it has none; {} without groups."""
    groups = {row["id"]: row["group"] for row in manifest.read(paths.real(study)) if row.get("group")}
    if not groups:
        return {}
    return {split: tuple(groups.get(name, name) for _, name in names) for split, names in images.items()}


def _table(
    cells: Cells, key: tuple[str, str, str], seeds: Sequence[str], images: Sequence[tuple[str, str]], file: str
) -> Table:
    training_set, split, metric = key
    for seed in seeds:
        cell = cells.get((training_set, split, seed), {})
        if missing := [name for name in images if name not in cell]:
            score = f"{training_set}, seed {seed}, {split} image {missing[0][1]!r}"
            share = f"{len(missing)} of {len(images)}"
            raise UserError(f"{file} has no score of {score} ({share}); run the stage that makes it again")
        if missing := [name for name in images if cell[name].get(metric, "") == ""]:
            score = f"{training_set}, seed {seed}, {split} image {missing[0][1]!r}"
            _check_metric(metric, cell[missing[0]], score, file)
    values = [[cells[training_set, split, seed][name][metric] for name in images] for seed in seeds]
    return np.array([[float(value) if value != "" else np.nan for value in row] for row in values])


def _check_metric(metric: str, row: Record, score: str, file: str) -> None:
    """Raise UserError for a metric that is no column, or has no value where it must have one."""
    if metric not in row:
        columns = ", ".join(key for key in row if key not in NAMES)
        raise UserError(f"{file} has no column {metric!r}; the available ones are: {columns}")
    if metric in METRICS:
        raise UserError(f"{file} has no {metric} of {score}; run the stage that makes it again")
