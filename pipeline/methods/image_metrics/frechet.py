"""Frechet distance of feature distributions: FID on Inception features, else named after the extractor.

Interval: jackknife over at most 20 blocks of positions, or of whole groups where they are known. A bootstrap would
repeat rows, which lowers the rank of the covariances and biases the distance upwards. The interval is for the distance
at this n, bias included: compare it with the floor.
"""

from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._distances import DIRECTION, on_extractors, without_value
from pipeline.methods.image_metrics._pieces import Piece
from pipeline.metrics.images.frechet import frechet_distance, without_blocks
from pipeline.metrics.images.score import ScoreResult
from pipeline.metrics.statistics.grouped import jackknife


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return one score per extractor and variant (train, train_half, heldout)."""
    return on_extractors(store.extractors("rows"), ["frechet"], (real, synthetic), store, _scores)


def _scores(names: list[str], piece: Piece, store: FeatureStore) -> list[ScoreResult]:
    (name,), n = names, len(piece.real)
    if n < 3:
        reason = f"{n} images per set; a covariance and its jackknife need 3"
        return [without_value(name, n, piece.variant, store, reason)]
    value = frechet_distance(piece.real, piece.synthetic)
    blocks = piece.blocks
    interval = jackknife(value, without_blocks(piece.real, piece.synthetic, blocks.first, blocks.second), blocks)
    floor = None if piece.stand_in is None else frechet_distance(piece.real, piece.stand_in)
    score = ScoreResult(name, value, n, DIRECTION, store.seed, piece.variant, floor=floor)
    return [score.within(interval.clipped(least=0.0))]
