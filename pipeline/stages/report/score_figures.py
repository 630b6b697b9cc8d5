"""Figures of scored sets: where the images lie among each other, and how the scores moved during training."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.core.tables import read_table
from pipeline.stages.report import figures
from pipeline.stages.report.drawing import Drawing


def feature_maps(study: str, generators: Iterable[str]) -> Iterator[Drawing]:
    """Yield one map per generator (map.csv of its scores); none where no extractor gave features."""
    for generator in generators:
        points: dict[str, list[tuple[float, float]]] = {}
        path = paths.scores(study, generator) / "map.csv"
        for row in read_table(path) if path.is_file() else []:
            points.setdefault(row["kind"], []).append((float(row["x"]), float(row["y"])))
        if points:
            yield figures.feature_map(generator, {kind: np.array(p) for kind, p in points.items()})


def snapshots(study: str, generators: Iterable[str]) -> Iterator[Drawing]:
    """Yield one figure per generator and score over training steps; none where no snapshot was kept."""
    for generator in generators:
        curves: dict[str, list[tuple[float, NDArray[np.float64]]]] = {}
        path = paths.snapshots(study, generator) / "steps.csv"
        for row in read_table(path) if path.is_file() else []:
            values = np.array([float(row[name] or "nan") for name in ("value", "low", "high")])
            curves.setdefault(row["score"], []).append((float(row["step"]), values))
        for score, points in curves.items():
            steps, values = zip(*points, strict=True)
            if np.isfinite(values).any():
                title = f"{generator}: {score.replace('.', ', ').replace('_', ' ')}"
                yield figures.score_over_steps(title, steps, np.stack(values, 1))
