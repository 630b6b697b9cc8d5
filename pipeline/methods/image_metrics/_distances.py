"""Shared by distances of feature distributions: scores per extractor and variant, and permutations of labels."""

from collections.abc import Callable, Sequence

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._names import distance_name
from pipeline.methods.image_metrics._pieces import Piece, pieces, sizes
from pipeline.metrics.images import mmd
from pipeline.metrics.images.score import Direction, ScoreResult

DIRECTION: Direction = "lower"


def on_extractors(
    extractors: Sequence[str],
    distances: Sequence[str],
    sets: tuple[ImageSet, ImageSet],
    store: FeatureStore,
    score_piece: Callable[[list[str], Piece, FeatureStore], list[ScoreResult]],
) -> list[ScoreResult]:
    """Return the scores of every extractor and variant; of missing extractors the reason instead of a value."""
    scores: list[ScoreResult] = []
    for extractor in extractors:
        names = [distance_name(distance, extractor) for distance in distances]
        if reason := store.missing(extractor):
            scores += [
                without_value(name, n, variant, store, reason) for variant, n in sizes(*sets).items() for name in names
            ]
        else:
            scores += [score for piece in pieces(*sets, store, extractor) for score in score_piece(names, piece, store)]
    return scores


def without_value(name: str, n: int, variant: str, store: FeatureStore, reason: str) -> ScoreResult:
    """Return a score without a value; it is null in metrics.json."""
    return ScoreResult(name, None, n, DIRECTION, store.seed, variant, reason=reason)


def permutations(piece: Piece, store: FeatureStore, name: str) -> mmd.Selections | None:
    """Return the sets, then `score.resamples` random assignments of all rows; None if the sets are not independent."""
    if piece.shares_masks:
        return None
    n, m = len(piece.real), len(piece.synthetic)
    rng = seeding.numpy_rng(store.seed, name, piece.variant, "permutations")
    return mmd.all_rows(n, m) + mmd.permutations(n, m, store.settings.resamples, rng)
