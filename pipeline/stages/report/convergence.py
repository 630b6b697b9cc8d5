"""How segmenters converge: training loss and Dice on validation images over optimiser steps, side by side."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths, tables
from pipeline.stages.report import figures, losses
from pipeline.stages.report.drawing import Drawing
from pipeline.study import Params

Curves = dict[str, NDArray[np.float64]]


def drawings(params: Params) -> Iterator[Drawing]:
    """Two figures of the training set that segmenters are compared on; none where segment.watch_every is not set."""
    watched = [name for name in params.segmenters if (_folder(params, name) / "convergence.csv").is_file()]
    dice = {name: curve for name in watched if (curve := _dice(params, name)) is not None}
    if not dice:
        return
    yield figures.dice_over_training(params.compared_on, dice)
    for loss, curves in _shared_losses(params, list(dice)).items():
        yield figures.loss_curves(f"{params.compared_on}: {loss}", curves)


def _folder(params: Params, segmenter: str) -> Path:
    return paths.segmentation(params.study, segmenter)


def _dice(params: Params, segmenter: str) -> NDArray[np.float64] | None:
    """Steps, then the Dice of every seed [1 + seeds, N]; None where the training set has no row."""
    rows = tables.read_table(_folder(params, segmenter) / "convergence.csv")
    seeds: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["training_set"] == params.compared_on:
            seeds.setdefault(row["seed"], []).append((float(row["step"]), float(row["dice"])))
    if not seeds:
        return None
    first, *_ = seeds.values()
    return np.array([[step for step, _ in first], *([dice for _, dice in curve] for curve in seeds.values())])


def _shared_losses(params: Params, segmenters: list[str]) -> dict[str, Curves]:
    """By the name of a loss that at least two of the segmenters have, its mean over seeds for each of them."""
    found: dict[str, Curves] = {}
    for name in segmenters:
        for loss, curve in losses.means(_folder(params, name) / "losses.csv", params.compared_on).items():
            found.setdefault(loss, {})[name] = curve
    return {loss: curves for loss, curves in found.items() if len(curves) > 1}
