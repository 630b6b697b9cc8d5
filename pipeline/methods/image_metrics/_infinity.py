"""Shared by the extrapolated Frechet distances: conditions, floor and interval.

Computed only for more synthetic images than features. `standard_error` is that of the line through the subsets'
distances. The interval adds in squares the uncertainty of the line and the jackknife interval of the distance of all
images: the bias that the line removes hardly varies from sample to sample, the distance itself does.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from pipeline.core import seeding
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._distances import DIRECTION, without_value
from pipeline.methods.image_metrics._pieces import Piece
from pipeline.metrics.images.arrays import Features
from pipeline.metrics.images.extrapolation import Intercept
from pipeline.metrics.images.frechet import frechet_distance, without_blocks
from pipeline.metrics.images.score import ScoreResult
from pipeline.metrics.statistics.grouped import Interval, jackknife

FEWEST = 12  # synthetic images, for subsets of three different sizes and more
FEWEST_REAL = 3  # for a covariance and its jackknife


def extrapolated(
    name: str,
    piece: Piece,
    store: FeatureStore,
    extrapolate: Callable[[Features, Features, np.random.Generator], Intercept],
) -> ScoreResult:
    """Return the score of one piece by either extrapolation, or the reason why there is none."""
    (n, features), n_real = piece.synthetic.shape, len(piece.real)
    needed = max(features + 1, FEWEST)
    if n < needed:
        reason = f"{n} synthetic images; an extrapolation of {features} features needs {needed}"
        return without_value(name, n, piece.variant, store, reason)
    if n_real < FEWEST_REAL:
        reason = f"{n_real} real images; a covariance and its jackknife need {FEWEST_REAL}"
        return without_value(name, n, piece.variant, store, reason)

    def line_to(rows: Features) -> Intercept:
        subsets = name.replace("_both", "")  # so that the values are those of older scores.json
        return extrapolate(piece.real, rows, seeding.numpy_rng(store.seed, subsets, piece.variant))

    line = line_to(piece.synthetic)
    score = ScoreResult(
        name,
        line.value,
        n,
        DIRECTION,
        store.seed,
        piece.variant,
        floor=None if piece.stand_in is None else line_to(piece.stand_in).value,
        standard_error=line.standard_error,
        n_real=None if n_real == n else n_real,
    )
    return score.within(_interval(line, piece))


def _interval(line: Intercept, piece: Piece) -> Interval:
    value, blocks = frechet_distance(piece.real, piece.synthetic), piece.blocks
    without = without_blocks(piece.real, piece.synthetic, blocks.first, blocks.second)
    of_images = jackknife(value, without, blocks)
    if of_images.low is None or of_images.high is None:
        return of_images
    half = math.hypot(line.half, (of_images.high - of_images.low) / 2)
    return replace(of_images, low=line.value - half, high=line.value + half)
