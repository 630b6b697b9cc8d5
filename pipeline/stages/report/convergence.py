"""How segmenters converge: training loss and Dice on validation images over optimiser steps, side by side."""

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths, tables
from pipeline.stages.report import figures, losses
from pipeline.stages.report.drawing import Drawing

Curves = dict[str, NDArray[np.float64]]


def drawings(study: str, segmenters: Iterable[str], training_set: str) -> Iterator[Drawing]:
    """Yield two figures of a training set; none where segment.watch_every is not set."""
    watched = [name for name in segmenters if (paths.segmentation(study, name) / "convergence.csv").is_file()]
    dice = {name: curve for name in watched if (curve := _dice(study, name, training_set)) is not None}
    if not dice:
        return
    yield figures.dice_over_training(training_set, dice)
    for loss, curves in _shared_losses(study, list(dice), training_set).items():
        yield figures.loss_curves(f"{training_set}: {loss}", curves)


def _dice(study: str, segmenter: str, training_set: str) -> NDArray[np.float64] | None:
    """Return steps, then the Dice of every seed [1 + seeds, N]; None where the training set has no row."""
    rows = tables.read_table(paths.segmentation(study, segmenter) / "convergence.csv")
    seeds: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["training_set"] == training_set:
            seeds.setdefault(row["seed"], []).append((float(row["step"]), float(row["dice"])))
    if not seeds:
        return None
    first, *_ = seeds.values()
    return np.array([[step for step, _ in first], *([dice for _, dice in curve] for curve in seeds.values())])


def _shared_losses(study: str, segmenters: Iterable[str], training_set: str) -> dict[str, Curves]:
    """Return, by name, each loss that at least two of the segmenters have: its mean over seeds for each of them."""
    losses_by_name: dict[str, Curves] = {}
    for name in segmenters:
        for loss, curve in losses.mean_losses(paths.segmentation(study, name) / "losses.csv", training_set).items():
            losses_by_name.setdefault(loss, {})[name] = curve
    return {loss: curves for loss, curves in losses_by_name.items() if len(curves) > 1}
