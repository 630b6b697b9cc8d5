"""Shared by distances of feature distributions: scores per extractor and variant, and permutations of labels."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._names import distance_name
from pipeline.methods.image_metrics._pieces import Piece, pieces, sizes
from pipeline.metrics.images import mmd
from pipeline.metrics.images.score import Direction, ScoreResult
from pipeline.metrics.statistics.grouped import Blocks, labels_of

DIRECTION: Direction = "lower"
SHARED_MASKS = "a synthetic image and the training image of its mask are not independent"
SHARED_GROUP = "a group (such as a patient) has images in both sets, so that the sets are not independent"
ONE_SIDED = "groups (such as patients) are known in one of the two sets only"
FEW_GROUPS = "the images of a set come from one group (such as a patient); a permutation of groups needs two"


class Permutations(NamedTuple):
    """The sets, then random assignments of all rows or whole groups; None where they are not given, and why."""

    selections: mmd.Selections | None
    reason: str | None = None


def on_extractors(
    extractors: Sequence[str],
    distances: Sequence[str],
    sets: tuple[ImageSet, ImageSet],
    store: FeatureStore,
    score_piece: Callable[[list[str], Piece, FeatureStore], list[ScoreResult]],
    whole_real: bool = False,
) -> list[ScoreResult]:
    """Return the scores of every extractor and variant; of missing extractors the reason instead of a value.

    `whole_real` is an argument of `pieces`.
    """
    scores: list[ScoreResult] = []
    for extractor in extractors:
        names = [distance_name(distance, extractor) for distance in distances]
        if reason := store.missing(extractor):
            counts = sizes(*sets, store.seed, whole_real)
            scores += [
                without_value(name, n, variant, store, reason) for variant, n in counts.items() for name in names
            ]
            continue
        for piece in pieces(*sets, store, extractor, whole_real):
            if reason := piece.missing_half:
                scores += [without_value(name, 0, piece.variant, store, reason) for name in names]
            else:
                scores += score_piece(names, piece, store)
    return scores


def without_value(name: str, n: int, variant: str, store: FeatureStore, reason: str) -> ScoreResult:
    """Return a score without a value; it is null in metrics.json."""
    return ScoreResult(name, None, n, DIRECTION, store.seed, variant, reason=reason)


def without_blocks(blocks: Blocks) -> mmd.Selections:
    """Return all rows but those of each block, or nothing if that leaves too few rows or there is one block."""
    selections = mmd.without_blocks(blocks.first, blocks.second)
    return selections if blocks.suffice() else selections.first_few(0)


def permutations(piece: Piece, store: FeatureStore, name: str) -> Permutations:
    """Return the sets, then `score.resamples` random assignments: of whole groups where they are known, else of rows.

    None, with the reason, if the sets are not independent or if their groups cannot be exchanged.
    """
    if piece.shares_masks:
        return Permutations(None, SHARED_MASKS)
    n, m = len(piece.real), len(piece.synthetic)
    rng = seeding.numpy_rng(store.seed, name, piece.variant, "permutations")
    real, synthetic = piece.real_units, piece.synthetic_units
    if real is None or synthetic is None or not (real.are_groups or synthetic.are_groups):
        return Permutations(mmd.all_rows(n, m) + mmd.permutations(n, m, store.settings.resamples, rng))
    if not (real.are_groups and synthetic.are_groups):
        return Permutations(None, ONE_SIDED)
    if set(real.names) & set(synthetic.names):
        return Permutations(None, SHARED_GROUP)
    if min(len(real), len(synthetic)) < 2:
        return Permutations(None, FEW_GROUPS)
    groups = labels_of(real.names), labels_of(synthetic.names)
    return Permutations(mmd.all_rows(n, m) + mmd.group_permutations(*groups, store.settings.resamples, rng))
