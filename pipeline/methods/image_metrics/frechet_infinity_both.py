"""Frechet distance extrapolated to infinitely many real and synthetic images, both sets subsampled to the same size.

A variant of FID-infinity for small real sets: with few real images, most of the bias is theirs, and the published line
(`frechet_infinity`) keeps it. Real images in place of the synthetic ones come out near 0.
"""

from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._distances import on_extractors
from pipeline.methods.image_metrics._infinity import extrapolated
from pipeline.methods.image_metrics._pieces import Piece
from pipeline.metrics.images.extrapolation import frechet_infinity_both
from pipeline.metrics.images.score import ScoreResult


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return one score per extractor and variant (train, train_half, heldout)."""
    return on_extractors(store.extractors("rows"), ["frechet_infinity_both"], (real, synthetic), store, _scores)


def _scores(names: list[str], piece: Piece, store: FeatureStore) -> list[ScoreResult]:
    return [extrapolated(names[0], piece, store, frechet_infinity_both)]
