"""What all distances of feature distributions share: scores per extractor and variant, and a kernel's permutations."""

from collections.abc import Callable, Sequence

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._names import distance_name
from pipeline.methods.image_metrics._view import Piece, View, pieces, sizes
from pipeline.metrics.images import mmd
from pipeline.metrics.images.score import Direction, Score

DIRECTION: Direction = "lower"


def on_extractors(
    extractors: Sequence[str],
    distances: Sequence[str],
    sets: tuple[ImageSet, ImageSet],
    view: View,
    of_piece: Callable[[list[str], Piece, View], list[Score]],
) -> list[Score]:
    """Scores of every extractor and variant; without a value, but with the reason, where an extractor is missing."""
    scores: list[Score] = []
    for extractor in extractors:
        names = [distance_name(distance, extractor) for distance in distances]
        if reason := view.missing(extractor):
            scores += [untold(name, n, variant, view, reason) for variant, n in sizes(*sets).items() for name in names]
        else:
            scores += [score for piece in pieces(*sets, view, extractor) for score in of_piece(names, piece, view)]
    return scores


def untold(name: str, n: int, variant: str, view: View, reason: str) -> Score:
    """A score without a value; its place in metrics.json says null."""
    return Score(name, None, n, DIRECTION, view.seed, variant, reason=reason)


def permutations(piece: Piece, view: View, name: str) -> mmd.Selections | None:
    """The whole sets and then `score.resamples` times all rows dealt anew; None where the sets are not independent."""
    if piece.shares_masks:
        return None
    n, m = len(piece.real), len(piece.synthetic)
    rng = seeding.numpy_rng(view.seed, name, piece.variant, "permutations")
    return mmd.whole(n, m) + mmd.permutations(n, m, view.settings.resamples, rng)
