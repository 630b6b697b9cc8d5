"""Loss curves of every training run of a study, read from the CSV files that the stages leave."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths, tables
from pipeline.study import Params

NAMES = ("segmenter", "training_set", "seed", "step")  # columns that are no loss


@dataclass(frozen=True)
class Run:
    """One training run: curves over optimiser steps, by name."""

    name: str
    curves: Mapping[str, NDArray[np.float64]]

    @property
    def total(self) -> NDArray[np.float64]:
        """Sum of all curves of one step (losses are already weighted)."""
        return np.sum(list(self.curves.values()), axis=0)


def read_runs(params: Params) -> list[Run]:
    """All runs of a study; the base has none where it was brought in from elsewhere."""
    return [Run(name, curves) for name, path in _files(params) if path.is_file() and (curves := _curves(path))]


def read_arms(params: Params) -> list[Run]:
    """One run per segmenter: the total loss of each training set, averaged over seeds."""
    return [Run(f"segment {name}", _by_training_set(_losses(params, name))) for name in params.segmenters]


def write_totals(folder: Path, runs: Iterable[Run]) -> None:
    """One CSV file per run with the columns step and loss, for `dvc plots`."""
    for run in runs:
        rows = [{"step": step, "loss": f"{loss:.6g}"} for step, loss in enumerate(run.total)]
        tables.write_table(folder / f"{run.name.replace(' ', '_')}.csv", rows)


def endings(runs: Iterable[Run]) -> list[tuple[str, str, int, float, float, float]]:
    """Run, loss, steps, and the means over the first, the best and the last fiftieth: the curves as a table."""
    found = []
    for run in runs:
        for name, values in run.curves.items():
            window = max(1, len(values) // 50)
            line = smooth(values, window)[window - 1 :]
            found.append((run.name, name, len(values), float(line[0]), float(line.min()), float(line[-1])))
    return found


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over the last `window` steps (over those there are, at the start)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (sums[ends] - sums[starts]) / (ends - starts)


def _files(params: Params) -> Iterator[tuple[str, Path]]:
    for part in ("autoencoder", "denoiser"):
        yield f"base {part}", paths.base(params.study) / f"losses_{part}.csv"
    for name in params.generators:
        yield f"finetune {name}", paths.generator(params.study, name) / "losses.csv"
    yield "judge", paths.judge(params.study) / "losses.csv"


def _losses(params: Params, segmenter: str) -> Path:
    return paths.segmentation(params.study, segmenter) / "losses.csv"


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


def means(path: Path, training_set: str) -> dict[str, NDArray[np.float64]]:
    """Every loss of one training set by name, averaged over seeds."""
    runs: dict[str, dict[str, list[float]]] = {}
    for row in tables.read_table(path):
        if row["training_set"] == training_set:
            for column in row.keys() - NAMES:
                runs.setdefault(column, {}).setdefault(row["seed"], []).append(_number(row[column]))
    return {loss: np.mean(list(seeds.values()), axis=0) for loss, seeds in sorted(runs.items())}


def _number(text: str) -> float:
    """A loss that is not in use at a step has no value there and weighs nothing."""
    return float(text) if text else 0.0
