"""Loss curves of every training run of a study, read from the CSV files that the stages leave."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths, tables
from pipeline.stages.judge import folds

NAMES = ("segmenter", "training_set", "seed", "step")  # columns that are no loss


@dataclass(frozen=True)
class LossCurves:
    """One training run: curves over optimiser steps, by name."""

    name: str
    curves: Mapping[str, NDArray[np.float64]]

    @property
    def total(self) -> NDArray[np.float64]:
        """The sum of all curves at every step (losses are already weighted); one that has ended counts as 0."""
        steps = max(map(len, self.curves.values()), default=0)
        return np.sum([np.pad(curve, (0, steps - len(curve))) for curve in self.curves.values()], axis=0)


def read_runs(study: str, generators: Iterable[str]) -> list[LossCurves]:
    """Read the runs of base, generators and judges; the base has none where it was imported."""
    return [
        LossCurves(name, curves)
        for name, path in _files(study, generators)
        if path.is_file() and (curves := _curves(path))
    ]


def read_arms(study: str, segmenters: Iterable[str]) -> list[LossCurves]:
    """Read one run per segmenter: the total loss of each training set, averaged over seeds."""
    return [
        LossCurves(f"segment {name}", _by_training_set(paths.segmentation(study, name) / "losses.csv"))
        for name in segmenters
    ]


def write_totals(folder: Path, runs: Iterable[LossCurves]) -> None:
    """Write one CSV file per run with the columns step and loss, for `dvc plots`."""
    for run in runs:
        rows = [{"step": step, "loss": f"{loss:.6g}"} for step, loss in enumerate(run.total)]
        tables.write_table(folder / f"{run.name.replace(' ', '_')}.csv", rows)


def summarize(runs: Iterable[LossCurves]) -> list[tuple[str, str, int, float, float, float]]:
    """Return run, loss, steps, and the means over the first, the best and the last fiftieth: the curves as a table."""
    rows = []
    for run in runs:
        for name, values in run.curves.items():
            window = max(1, len(values) // 50)
            line = smooth(values, window)[window - 1 :]
            rows.append((run.name, name, len(values), float(line[0]), float(line.min()), float(line[-1])))
    return rows


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Return the mean over the last `window` steps, at the start over all steps so far."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _files(study: str, generators: Iterable[str]) -> Iterator[tuple[str, Path]]:
    for part in ("autoencoder", "denoiser", "decoder"):
        yield f"base {part}", paths.base(study) / f"losses_{part}.csv"
    for name in generators:
        yield f"finetune {name}", paths.generator(study, name) / "losses.csv"
    for name, folder in folds.folders(paths.judge(study)).items():
        yield name, folder / "losses.csv"


def _curves(path: Path) -> dict[str, NDArray[np.float64]]:
    rows = tables.read_table(path)
    columns = [column for column in (rows[0] if rows else {}) if column not in NAMES]
    return {column: np.array([_number(row[column]) for row in rows]) for column in columns}


def _by_training_set(path: Path) -> dict[str, NDArray[np.float64]]:
    runs: dict[tuple[str, str], list[float]] = {}
    for row in tables.read_table(path):
        losses = (_number(value) for column, value in row.items() if column not in NAMES)
        runs.setdefault((row["training_set"], row["seed"]), []).append(sum(losses))
    arms = dict.fromkeys(arm for arm, _ in runs)
    return {arm: np.mean([losses for (name, _), losses in runs.items() if name == arm], axis=0) for arm in arms}


def mean_losses(path: Path, training_set: str) -> dict[str, NDArray[np.float64]]:
    """Return every loss of one training set by name, averaged over seeds."""
    runs: dict[str, dict[str, list[float]]] = {}
    for row in tables.read_table(path):
        if row["training_set"] == training_set:
            for column in row.keys() - NAMES:
                runs.setdefault(column, {}).setdefault(row["seed"], []).append(_number(row[column]))
    return {loss: np.mean(list(seeds.values()), axis=0) for loss, seeds in sorted(runs.items())}


def _number(text: str) -> float:
    """Parse a loss; one that is not in use at a step has no value there and counts as 0."""
    return float(text) if text else 0.0
