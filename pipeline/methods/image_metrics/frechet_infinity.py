"""Frechet distance extrapolated to infinitely many synthetic images: FID-infinity on Inception features.

As published (Chong & Forsyth 2020): all real images of the comparison at every point of the line, random subsets of the
synthetic ones. The bias of the number of real images stays; `frechet_infinity_both` removes it too.
"""

from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._distances import on_extractors
from pipeline.methods.image_metrics._infinity import extrapolated
from pipeline.methods.image_metrics._pieces import Piece
from pipeline.metrics.images.extrapolation import frechet_infinity
from pipeline.metrics.images.score import ScoreResult


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return one score per extractor and variant (train, train_half, heldout)."""
    extractors = store.extractors("rows")
    return on_extractors(extractors, ["frechet_infinity"], (real, synthetic), store, _scores, whole_real=True)


def _scores(names: list[str], piece: Piece, store: FeatureStore) -> list[ScoreResult]:
    return [extrapolated(names[0], piece, store, frechet_infinity)]
