"""Precision, recall, density and coverage of feature rows (Kynkaanniemi et al. 2019; Naeem et al. 2020), k = 5.

precision and density: are synthetic images like real ones; recall and coverage: are all kinds of real images covered.
They move with n, so both sets have equally many images and the value is compared with the floor. Recall and
precision are known to jump with single outliers; density can exceed 1.

Interval: jackknife over at most 20 blocks of positions, or of whole groups where they are known. A bootstrap repeats
rows, and a row's repetition is its nearest neighbour: radii shrink to nothing. Leaving out a twentieth leaves radii
nearly as they are, and leaving out blocks, not single rows, also suits statistics that are not smooth (Shao & Wu 1989).
"""

import math

from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._pieces import Piece, pieces, sizes
from pipeline.metrics.images.arrays import Array
from pipeline.metrics.images.manifold import NAMES, prdc, prdc_without
from pipeline.metrics.images.score import Direction, ScoreResult
from pipeline.metrics.statistics.grouped import jackknife

DIRECTION: Direction = "higher"
NEIGHBOURS = 5


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return four scores per extractor of rows and variant."""
    scores: list[ScoreResult] = []
    for extractor in store.extractors("rows"):
        if reason := store.missing(extractor):
            unavailable = [
                (name, variant, n) for variant, n in sizes(real, synthetic, store.seed).items() for name in NAMES
            ]
            scores += [_absent(name, extractor, n, store, reason, variant) for name, variant, n in unavailable]
            continue
        for piece in pieces(real, synthetic, store, extractor):
            scores += _scores(extractor, piece, store)
    return scores


def _scores(extractor: str, piece: Piece, store: FeatureStore) -> list[ScoreResult]:
    n = len(piece.real)
    if reason := piece.missing_half:
        return [_absent(name, extractor, n, store, reason, piece.variant) for name in NAMES]
    if n <= NEIGHBOURS + 1:
        reason = f"{n} images per set; {NEIGHBOURS} neighbours need at least {NEIGHBOURS + 2}"
        return [_absent(name, extractor, n, store, reason, piece.variant) for name in NAMES]
    values, blocks = prdc(piece.real, piece.synthetic, NEIGHBOURS), piece.blocks
    without: dict[str, Array] = {}
    if blocks.suffice(NEIGHBOURS + 1):
        without = prdc_without(piece.real, piece.synthetic, NEIGHBOURS, blocks.first, blocks.second)
    floors = {} if piece.stand_in is None else prdc(piece.real, piece.stand_in, NEIGHBOURS)
    scores: list[ScoreResult] = []
    for name, value in values.items():
        interval = jackknife(value, lambda block, name=name: float(without[name][block]), blocks, NEIGHBOURS + 1)
        interval = interval.clipped(0.0, math.inf if name == "density" else 1.0)
        score = ScoreResult(
            f"{name}.{extractor}", value, n, DIRECTION, store.seed, piece.variant, floor=floors.get(name)
        )
        scores.append(score.within(interval))
    return scores


def _absent(name: str, extractor: str, n: int, store: FeatureStore, reason: str, variant: str) -> ScoreResult:
    return ScoreResult(f"{name}.{extractor}", None, n, DIRECTION, store.seed, variant, reason=reason)
