"""Frechet distance extrapolated to infinitely many images: FID-infinity on Inception features.

Computed only for more images than features. `standard_error` is that of the line through the subsets' distances. The
interval adds in squares the uncertainty of the line and the jackknife interval of the distance at n: the bias that the
line removes hardly varies from sample to sample, the distance itself does.
"""

import math

import numpy as np

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._distances import DIRECTION, on_extractors, without_value
from pipeline.methods.image_metrics._pieces import Piece
from pipeline.metrics.images.extrapolation import frechet_infinity
from pipeline.metrics.images.frechet import frechet_distance, without_groups
from pipeline.metrics.images.score import ScoreResult
from pipeline.metrics.statistics.resampling import jackknife_interval

FEWEST = 12  # images per set, for subsets of three different sizes and more


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return one score per extractor and variant (train, train_half, heldout)."""
    return on_extractors(store.extractors("rows"), ["frechet_infinity"], (real, synthetic), store, _scores)


def _scores(names: list[str], piece: Piece, store: FeatureStore) -> list[ScoreResult]:
    (name,), (n, features) = names, piece.real.shape
    needed = max(features + 1, FEWEST)
    if n < needed:
        reason = f"{n} images per set; an extrapolation of {features} features needs {needed}"
        return [without_value(name, n, piece.variant, store, reason)]
    line = frechet_infinity(piece.real, piece.synthetic, _rng(name, piece, store))
    half = math.hypot(line.half, _half_at_n(piece))
    floor = None
    if piece.stand_in is not None:
        floor = frechet_infinity(piece.real, piece.stand_in, _rng(name, piece, store)).value
    interval = line.value - half, line.value + half
    return [
        ScoreResult(name, line.value, n, DIRECTION, store.seed, piece.variant, *interval, floor, line.standard_error),
    ]


def _half_at_n(piece: Piece) -> float:
    """Return half of the jackknife interval of the distance of all rows."""
    value = frechet_distance(piece.real, piece.synthetic)
    without = without_groups(piece.real, piece.synthetic, piece.groups)
    low, high = jackknife_interval(value, without, int(piece.groups.max()) + 1)
    return (high - low) / 2


def _rng(name: str, piece: Piece, store: FeatureStore) -> np.random.Generator:
    return seeding.numpy_rng(store.seed, name, piece.variant)
