"""Kernel distance (unbiased MMD^2, cubic polynomial): KID on Inception features, else named after the extractor.

`standard_error` is that of the mean over random subsets; the interval is for more images (jackknife over 20 groups of
positions). `p_value` is for "synthetic and real images have one distribution", by permutation of all rows; not given
against the training images, because a synthetic image and the training image of its mask are not independent.
"""

import numpy as np

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._distances import DIRECTION, on_extractors, permutations, without_value
from pipeline.methods.image_metrics._pieces import Piece
from pipeline.metrics.images import mmd
from pipeline.metrics.images.arrays import Array, Features
from pipeline.metrics.images.kernel import cubic
from pipeline.metrics.images.score import ScoreResult
from pipeline.metrics.statistics.resampling import jackknife_interval


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return one score per extractor and variant (train, train_half, heldout)."""
    return on_extractors(store.extractors("rows"), ["kernel"], (real, synthetic), store, _scores)


def _scores(names: list[str], piece: Piece, store: FeatureStore) -> list[ScoreResult]:
    (name,), n = names, len(piece.real)
    if n < 3:
        reason = f"{n} images per set; an unbiased estimate and its jackknife need 3"
        return [without_value(name, n, piece.variant, store, reason)]
    subsets, permuted = _subsets(name, piece, store), permutations(piece, store, name)
    groups = int(piece.groups.max()) + 1
    selections = mmd.without_groups(piece.groups) + subsets
    all_selections = selections if permuted is None else selections + permuted
    estimates = _estimates(piece.real, piece.synthetic, all_selections)
    drawn, tested = estimates[groups : len(selections)], estimates[len(selections) :]
    value = float(drawn.mean())
    error = float(drawn.std(ddof=1) / np.sqrt(len(drawn))) if len(drawn) > 1 else 0.0
    low, high = jackknife_interval(value, lambda group: float(estimates[group]), groups)
    floor = None if piece.stand_in is None else float(_estimates(piece.real, piece.stand_in, subsets).mean())
    p = None if permuted is None else mmd.permutation_p(tested[0], tested[1:])
    return [ScoreResult(name, value, n, DIRECTION, store.seed, piece.variant, low, high, floor, error, p)]


def _subsets(name: str, piece: Piece, store: FeatureStore) -> mmd.Selections:
    n, settings = len(piece.real), store.settings
    rng = seeding.numpy_rng(store.seed, name, piece.variant)
    return mmd.subsets(n, n, min(settings.subset_size, n), settings.subsets, rng)


def _estimates(real: Features, other: Features, selections: mmd.Selections) -> Array:
    return mmd.mmd2(np.concatenate([real, other]), selections, cubic).unbiased
