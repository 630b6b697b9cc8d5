"""Vendi score: the effective number of different images in a set, on every extractor of rows; higher is more diverse.

It grows with n, so it is computed for as many first copies as there are training images, and its floor is that of the
real images of the same masks. Interval: jackknife over at most 20 blocks of rows, or of whole groups where they are
known (repeated rows of a bootstrap would lower it).
"""

from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._pieces import pieces
from pipeline.metrics.images.score import Direction, ScoreResult
from pipeline.metrics.images.vendi import vendi, vendi_without
from pipeline.metrics.statistics.grouped import jackknife

DIRECTION: Direction = "higher"


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return one score per extractor of rows."""
    return [_score(real, synthetic, store, extractor) for extractor in store.extractors("rows")]


def _score(real: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str) -> ScoreResult:
    name = f"vendi.{extractor}"
    if reason := store.missing(extractor):
        return ScoreResult(name, None, len(synthetic), DIRECTION, store.seed, reason=reason)
    piece = next(piece for piece in pieces(real, synthetic, store, extractor) if piece.variant == "train")
    n = len(piece.synthetic)
    if n < 3:
        return ScoreResult(
            name, None, n, DIRECTION, store.seed, reason=f"{n} images; a diversity and its jackknife need 3"
        )
    value, blocks = vendi(piece.synthetic), piece.synthetic_blocks
    interval = jackknife(value, vendi_without(piece.synthetic, blocks.second), blocks)
    score = ScoreResult(name, value, n, DIRECTION, store.seed, floor=vendi(piece.real))
    return score.within(interval.clipped(1.0, n))
