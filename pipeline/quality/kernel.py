"""Kernel distance (unbiased MMD^2, cubic polynomial) of features, named after the extractor (no KID: not Inception).

`standard_error` tells how far the mean over random subsets is from that over all subsets; the interval tells how far
the value may be from that of more images (jackknife over 20 groups of positions).
"""

from pipeline import seeding
from pipeline.data.image_set import ImageSet
from pipeline.metrics.kernel import kernel_distance, without_groups
from pipeline.metrics.resampling import jackknife_interval
from pipeline.metrics.score import Direction, Score
from pipeline.quality._view import Piece, Rows, View, pieces

DIRECTION: Direction = "lower"


def score(real: ImageSet, synthetic: ImageSet, view: View) -> list[Score]:
    """One score per extractor and variant (train, train_half, heldout)."""
    return [
        _score(f"kernel.{extractor}", piece, view)
        for extractor in view.settings.extractors
        for piece in pieces(real, synthetic, view, extractor)
    ]


def _score(name: str, piece: Piece, view: View) -> Score:
    n = len(piece.real)
    if n < 3:
        reason = f"{n} images per set; an unbiased estimate and its jackknife need 3"
        return Score(name, None, n, DIRECTION, view.seed, piece.variant, reason=reason)
    value, error = _distance(piece.real, piece.synthetic, view, name, piece.variant)
    groups = piece.groups
    without = without_groups(piece.real, piece.synthetic, groups)
    low, high = jackknife_interval(value, without, int(groups.max()) + 1)
    floor = None
    if piece.stand_in is not None:
        floor, _ = _distance(piece.real, piece.stand_in, view, name, piece.variant)
    return Score(name, value, n, DIRECTION, view.seed, piece.variant, low, high, floor, error)


def _distance(real: Rows, other: Rows, view: View, name: str, variant: str) -> tuple[float, float]:
    rng = seeding.numpy_rng(view.seed, name, variant)
    return kernel_distance(real, other, view.settings.subsets, view.settings.subset_size, rng)
