"""Discrepancy under a Gaussian kernel (sigma 10, rows of unit length), x 1000: CMMD on CLIP ViT-L/14 at 336 px.

`cmmd` is the biased estimate, as published (Jayasumana et al. 2024), and grows with fewer images; `cmmd_unbiased`
does not and can be negative. On other extractors the same two numbers are `mmd_rbf` and `mmd_rbf_unbiased`. Interval:
jackknife over at most 20 blocks of positions, or of whole groups where they are known; that of the biased estimate is
for its value at this n, bias included.
`p_value` as for the kernel distance.
"""

from dataclasses import replace

import numpy as np

from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._distances import (
    DIRECTION,
    on_extractors,
    permutations,
    without_blocks,
    without_value,
)
from pipeline.methods.image_metrics._names import CMMD_EXTRACTOR
from pipeline.methods.image_metrics._pieces import Piece
from pipeline.metrics.images import mmd
from pipeline.metrics.images.arrays import Array, Features
from pipeline.metrics.images.kernel import gaussian, unit_length
from pipeline.metrics.images.score import ScoreResult
from pipeline.metrics.statistics.grouped import Blocks, jackknife

SCALE = 1000


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return two scores per extractor and variant; `cmmd` without a value if its extractor is missing."""
    extractors = list(dict.fromkeys([CMMD_EXTRACTOR, *store.extractors("rows")]))
    return on_extractors(extractors, ["mmd_rbf", "mmd_rbf_unbiased"], (real, synthetic), store, _scores)


def _scores(names: list[str], piece: Piece, store: FeatureStore) -> list[ScoreResult]:
    n = len(piece.real)
    if n < 3:
        reason = f"{n} images per set; an unbiased estimate and its jackknife need 3"
        return [without_value(name, n, piece.variant, store, reason) for name in names]
    blocks, permuted = piece.blocks, permutations(piece, store, names[0])
    left_out = without_blocks(blocks)
    selections = left_out + (permuted.selections or mmd.all_rows(n, n))
    estimates = _estimates(piece.real, piece.synthetic, selections)
    floors = None if piece.stand_in is None else _estimates(piece.real, piece.stand_in, mmd.all_rows(n, n))
    scores: list[ScoreResult] = []
    for k, name in enumerate(names):
        floor = None if floors is None else float(floors[k][0])
        score = ScoreResult(name, None, n, DIRECTION, store.seed, piece.variant, floor=floor, p_reason=permuted.reason)
        scores.append(_completed(score, estimates[k], len(left_out), blocks))
    return scores


def _completed(score: ScoreResult, estimates: Array, start: int, blocks: Blocks) -> ScoreResult:
    """Complete a score from estimates without each block, then (at `start`) of all rows, then with permuted labels."""
    value, permuted = float(estimates[start]), estimates[start + 1 :]
    p = mmd.permutation_p(value, permuted) if len(permuted) else None
    interval = jackknife(value, lambda block: float(estimates[block]), blocks)
    return replace(score, value=value, p_value=p).within(interval)


def _estimates(real: Features, other: Features, selections: mmd.Selections) -> mmd.Estimates:
    """Return biased and unbiased estimates, x 1000."""
    rows = unit_length(np.concatenate([real, other]))
    return mmd.Estimates(*(SCALE * values for values in mmd.mmd2(rows, selections, gaussian)))
