"""Frechet distance of feature distributions, named after the extractor (it is no FID without Inception features).

Interval: jackknife over 20 groups of positions. A bootstrap would repeat rows, which lowers the rank of the covariances
and biases the distance upwards.
"""

from pipeline.data.image_set import ImageSet
from pipeline.metrics.frechet import frechet_distance
from pipeline.metrics.resampling import jackknife_interval
from pipeline.metrics.score import Direction, Score
from pipeline.quality._view import Piece, View, pieces

DIRECTION: Direction = "lower"


def score(real: ImageSet, synthetic: ImageSet, view: View) -> list[Score]:
    """One score per extractor and variant (train, train_half, heldout)."""
    return [
        _score(f"frechet.{extractor}", piece, view.seed)
        for extractor in view.settings.extractors
        for piece in pieces(real, synthetic, view, extractor)
    ]


def _score(name: str, piece: Piece, seed: int) -> Score:
    n = len(piece.real)
    if n < 3:
        reason = f"{n} images per set; a covariance and its jackknife need 3"
        return Score(name, None, n, DIRECTION, seed, piece.variant, reason=reason)
    groups = piece.groups
    value = frechet_distance(piece.real, piece.synthetic)
    low, high = jackknife_interval(
        value, lambda g: frechet_distance(piece.real[groups != g], piece.synthetic[groups != g]), int(groups.max()) + 1
    )
    floor = None if piece.stand_in is None else frechet_distance(piece.real, piece.stand_in)
    return Score(name, value, n, DIRECTION, seed, piece.variant, max(low, 0.0), high, floor)
