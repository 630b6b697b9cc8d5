"""Kernel distance (unbiased MMD^2, cubic polynomial): KID on Inception features, else named after the extractor.

The value is the mean over `subsets` random subsets of m = `subset_size` images per set, and `subset_sd` the standard
deviation over them, as papers print the two (Binkowski et al. 2018). It shrinks with m, not with the number of subsets;
`standard_error` = SD / sqrt(subsets) says how well the subsets determine their mean. Both are about these images. The
interval is about other images: jackknife over at most 20 blocks of positions, or of whole groups where they are known.
`p_value` is for "synthetic and real images have one distribution", by permutation of all rows, or of whole groups; not
given against the training images, because a synthetic image and the training image of its mask are not independent.
"""

import math

import numpy as np

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._distances import (
    DIRECTION,
    on_extractors,
    permutations,
    without_blocks,
    without_value,
)
from pipeline.methods.image_metrics._pieces import Piece
from pipeline.metrics.images import mmd
from pipeline.metrics.images.arrays import Array, Features
from pipeline.metrics.images.kernel import cubic
from pipeline.metrics.images.score import ScoreResult
from pipeline.metrics.statistics.grouped import jackknife


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return one score per extractor and variant (train, train_half, heldout)."""
    return on_extractors(store.extractors("rows"), ["kernel"], (real, synthetic), store, _scores)


def _scores(names: list[str], piece: Piece, store: FeatureStore) -> list[ScoreResult]:
    (name,), n = names, len(piece.real)
    if n < 3:
        reason = f"{n} images per set; an unbiased estimate and its jackknife need 3"
        return [without_value(name, n, piece.variant, store, reason)]
    blocks, subsets, permuted = piece.blocks, _subsets(name, piece, store), permutations(piece, store, name)
    left_out = without_blocks(blocks)
    selections = left_out + subsets
    all_selections = selections if permuted.selections is None else selections + permuted.selections
    estimates = _estimates(piece.real, piece.synthetic, all_selections)
    drawn, tested = estimates[len(left_out) : len(selections)], estimates[len(selections) :]
    value = float(drawn.mean())
    sd = float(drawn.std(ddof=1)) if len(drawn) > 1 else None
    floor = None if piece.stand_in is None else float(_estimates(piece.real, piece.stand_in, subsets).mean())
    score = ScoreResult(
        name,
        value,
        n,
        DIRECTION,
        store.seed,
        piece.variant,
        floor=floor,
        standard_error=0.0 if sd is None else sd / math.sqrt(len(drawn)),
        p_value=mmd.permutation_p(tested[0], tested[1:]) if len(tested) else None,
        p_reason=permuted.reason,
        subsets=len(drawn),
        subset_size=min(store.settings.kid_subset_size, n),
        subset_sd=sd,
    )
    return [score.within(jackknife(value, lambda block: float(estimates[block]), blocks))]


def _subsets(name: str, piece: Piece, store: FeatureStore) -> mmd.Selections:
    n, settings = len(piece.real), store.settings
    rng = seeding.numpy_rng(store.seed, name, piece.variant)
    return mmd.subsets(n, n, min(settings.kid_subset_size, n), settings.kid_subsets, rng)


def _estimates(real: Features, other: Features, selections: mmd.Selections) -> Array:
    return mmd.mmd2(np.concatenate([real, other]), selections, cubic).unbiased
