"""Kernel distance (unbiased MMD^2, cubic polynomial): KID on Inception features, else named after the extractor.

`standard_error` tells how far the mean over random subsets is from that over all subsets; the interval tells how far
the value may be from that of more images (jackknife over 20 groups of positions). `p_value` is that of "synthetic and
real images come from one distribution", by permutation of all rows; not given against the training images, because a
synthetic image and the training image of its mask are not independent.
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
    """One score per extractor and variant (train, train_half, heldout)."""
    return on_extractors(store.extractors("rows"), ["kernel"], (real, synthetic), store, _scores)


def _scores(names: list[str], piece: Piece, store: FeatureStore) -> list[ScoreResult]:
    (name,), n = names, len(piece.real)
    if n < 3:
        reason = f"{n} images per set; an unbiased estimate and its jackknife need 3"
        return [without_value(name, n, piece.variant, store, reason)]
    subsets, dealt = _subsets(name, piece, store), permutations(piece, store, name)
    groups = int(piece.groups.max()) + 1
    chosen = mmd.without_groups(piece.groups) + subsets
    found = _estimates(piece.real, piece.synthetic, chosen if dealt is None else chosen + dealt)
    drawn, tested = found[groups : len(chosen)], found[len(chosen) :]
    value = float(drawn.mean())
    error = float(drawn.std(ddof=1) / np.sqrt(len(drawn))) if len(drawn) > 1 else 0.0
    low, high = jackknife_interval(value, lambda group: float(found[group]), groups)
    floor = None if piece.stand_in is None else float(_estimates(piece.real, piece.stand_in, subsets).mean())
    p = None if dealt is None else mmd.permutation_p(tested[0], tested[1:])
    return [ScoreResult(name, value, n, DIRECTION, store.seed, piece.variant, low, high, floor, error, p)]


def _subsets(name: str, piece: Piece, store: FeatureStore) -> mmd.Selections:
    n, settings = len(piece.real), store.settings
    rng = seeding.numpy_rng(store.seed, name, piece.variant)
    return mmd.subsets(n, n, min(settings.subset_size, n), settings.subsets, rng)


def _estimates(real: Features, other: Features, chosen: mmd.Selections) -> Array:
    return mmd.mmd2(np.concatenate([real, other]), chosen, cubic).unbiased
