"""Several samples of a segmenter against the masks of several raters: GED, CI score and its parts, HM-IoU.

Sets are boolean masks [n, *spatial], of one structure of one image. Two empty masks agree fully: their Dice and IoU are
1; those of an empty mask and a non-empty one are 0. No score depends on the order of a set. CI score: Rahman et al.
2023 (CIMD, arXiv 2304.04745), whose text leaves the difference of a pair open; GED: Kohl et al. 2018; HM-IoU: Kohl et
al. 2019.
"""

from dataclasses import dataclass
from math import lcm
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Masks = NDArray[np.bool_]
Matrix = NDArray[np.float64]
EmptyTruth = Literal["one", "zero"]
PairRule = Literal["variance", "dice"]


@dataclass(frozen=True)
class AmbiguityScores:
    """Agreement of samples with raters, in the order of the columns of scores.csv."""

    ged: float  # squared generalised energy distance, 0 is best
    s_c: float
    d_max: float
    d_a: float
    ci_printed: float
    ci_harmonic: float
    hm_iou: float


def ambiguity_scores(
    samples: Masks, raters: Masks, empty_truth: EmptyTruth = "one", pair_rule: PairRule = "variance"
) -> AmbiguityScores:
    """Return all scores of samples [n, *spatial] against raters [m, *spatial]."""
    parts = (
        combined_sensitivity(samples, raters, empty_truth),
        maximum_dice(samples, raters),
        diversity_agreement(samples, raters, pair_rule),
    )
    distance = ged_squared(samples, raters)
    return AmbiguityScores(distance, *parts, ci_printed(*parts), ci_harmonic(*parts), matched_iou(samples, raters))


def ged_squared(samples: Masks, raters: Masks) -> float:
    """Return 2 E d(S, Y) - E d(S, S') - E d(Y, Y') with d = 1 - IoU, over all ordered pairs, self-pairs included.

    0 for equal sets (of any sizes, where each mask makes up the same fraction of both), at most 2.
    """
    across, within, between = (
        1 - pairwise_iou(*pair) for pair in ((samples, raters), (samples, samples), (raters, raters))
    )
    return max(0.0, float(2 * across.mean() - within.mean() - between.mean()))


def combined_sensitivity(samples: Masks, raters: Masks, empty_truth: EmptyTruth = "one") -> float:
    """Return S_c: the fraction of the union of the raters that the union of the samples covers.

    Both unions empty: 1. Only the raters' union empty: 0 / 0, which the paper leaves open; `empty_truth` decides.
    """
    predicted, true = samples.any(0), raters.any(0)
    if true.any():
        return float((predicted & true).sum() / true.sum())
    return float(empty_truth == "one" or not predicted.any())


def maximum_dice(samples: Masks, raters: Masks) -> float:
    """Return D_max: the mean over the raters of the Dice of the best-matching sample."""
    return float(pairwise_dice(raters, samples).max(1).mean())


def diversity_agreement(samples: Masks, raters: Masks, rule: PairRule = "variance") -> float:
    """Return D_a = 1 - (dV_max + dV_min) / 2, dV being the difference between both sets in their extreme pairwise V.

    A set of one mask has V_max = V_min = 0.
    """
    predicted, true = pair_differences(samples, rule), pair_differences(raters, rule)
    return float(1 - (abs(true.max() - predicted.max()) + abs(true.min() - predicted.min())) / 2)


def pair_differences(masks: Masks, rule: PairRule = "variance") -> Matrix:
    """Return V of each pair i < j of a set: `variance` over the pixels of A - B, or `dice`, 1 - Dice.

    [0] for a single mask. The variance is P(A != B) - (P(A without B) - P(B without A))^2, with P the fraction of the
    image's pixels.
    """
    upper = np.triu_indices(len(masks), 1)
    if not len(upper[0]):
        return np.zeros(1)
    if rule == "dice":
        return 1 - pairwise_dice(masks, masks)[upper]
    common, sizes = _common(masks, masks), _sizes(masks)
    pixels = masks[0].size
    only_one, only_other = (sizes[:, None] - common) / pixels, (sizes[None] - common) / pixels
    return (only_one + only_other - (only_one - only_other) ** 2)[upper]


def ci_printed(s_c: float, d_max: float, d_a: float) -> float:
    """Return 3abc / (a + b + c), the form behind published tables; 0 where all are 0.

    This is not a harmonic mean, and never above it.
    """
    total = s_c + d_max + d_a
    return 3 * s_c * d_max * d_a / total if total else 0.0


def ci_harmonic(s_c: float, d_max: float, d_a: float) -> float:
    """Return 3 / (1/a + 1/b + 1/c), the harmonic mean of the paper's text; 0 where one is 0."""
    pairs = s_c * d_max + d_max * d_a + s_c * d_a
    return 3 * s_c * d_max * d_a / pairs if pairs else 0.0


def matched_iou(samples: Masks, raters: Masks) -> float:
    """Return HM-IoU: the mean IoU of the best one-to-one matching of both sets.

    Sets of different sizes are repeated to the least common multiple of their sizes.
    """
    size = lcm(len(samples), len(raters))
    table = pairwise_iou(samples, raters).repeat(size // len(samples), 0).repeat(size // len(raters), 1)
    return float(table[linear_sum_assignment(table, maximize=True)].mean())


def pairwise_iou(one: Masks, other: Masks) -> Matrix:
    """Return the IoU of each mask of [n, *spatial] with each of [m, *spatial]: [n, m]."""
    common = _common(one, other)
    union = _sizes(one)[:, None] + _sizes(other)[None] - common
    return np.where(union > 0, common / np.maximum(union, 1), 1.0)


def pairwise_dice(one: Masks, other: Masks) -> Matrix:
    """Return the Dice of each mask of [n, *spatial] with each of [m, *spatial]: [n, m]."""
    total = _sizes(one)[:, None] + _sizes(other)[None]
    return np.where(total > 0, 2 * _common(one, other) / np.maximum(total, 1), 1.0)


def _common(one: Masks, other: Masks) -> Matrix:
    """Return the number of pixels that each pair has in common, exactly."""
    rows, columns = (masks.reshape(len(masks), -1).astype(np.float64) for masks in (one, other))
    return rows @ columns.T


def _sizes(masks: Masks) -> Matrix:
    return masks.reshape(len(masks), -1).sum(1, dtype=np.float64)
