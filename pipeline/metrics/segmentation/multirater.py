"""Several samples of a segmenter against the masks of several raters: GED, CI score and its parts, HM-IoU.

Sets are boolean masks [n, *spatial], of one structure of one image. Two empty masks agree fully: their Dice and IoU are
1; those of an empty mask and a non-empty one are 0. No score depends on the order of a set. CI score: Rahman et al.
2023 (CIMD, arXiv 2304.04745), whose text leaves the difference of a pair open, so that public implementations differ
(PairRule; docs/protocol.md names them); GED: Kohl et al. 2018; HM-IoU: Kohl et al. 2019.
"""

from dataclasses import dataclass
from math import lcm
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from pipeline.metrics.segmentation.boundary import bounding_box

Masks = NDArray[np.bool_]
Matrix = NDArray[np.float64]
EmptyTruth = Literal["one", "zero"]
PairRule = Literal["variance", "variance_self", "dice", "size_variance"]
PairRegion = Literal["image", "union"]


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


@dataclass(frozen=True)
class EmptySets:
    """Whether all masks of both sets or of one are empty, as 0 and 1, in the order of the columns of scores.csv.

    In these cases conventions decide the scores, not outlines.
    """

    empty_both: float  # nothing to find, nothing found
    empty_raters: float  # nothing to find, but something found
    empty_samples: float  # something to find, but nothing found


def empty_sets(samples: Masks, raters: Masks) -> EmptySets:
    """Tell the cases of samples [n, *spatial] and raters [m, *spatial] apart in which a set marks nothing."""
    found, true = bool(samples.any()), bool(raters.any())
    return EmptySets(float(not found and not true), float(found and not true), float(true and not found))


def ambiguity_scores(
    samples: Masks,
    raters: Masks,
    empty_truth: EmptyTruth = "one",
    pair_rule: PairRule = "variance",
    pair_region: PairRegion = "image",
) -> AmbiguityScores:
    """Return all scores of samples [n, *spatial] against raters [m, *spatial]."""
    parts = (
        combined_sensitivity(samples, raters, empty_truth),
        maximum_dice(samples, raters),
        diversity_agreement(samples, raters, pair_rule, pair_region),
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


def diversity_agreement(
    samples: Masks, raters: Masks, rule: PairRule = "variance", region: PairRegion = "image"
) -> float:
    """Return D_a = 1 - (dV_max + dV_min) / 2, dV being the difference between both sets in their extreme pairwise V.

    A set of one mask has V_max = V_min = 0. Variances are taken over the pixels of the image, or of the bounding box of
    the `union` of all masks of both sets, so that they do not shrink with the lesion; D_a is in [0, 1] either way.
    """
    pixels = _box_size(np.any(np.concatenate([samples, raters]), axis=0)) if region == "union" else samples[0].size
    predicted, true = (pair_differences(masks, rule, pixels) for masks in (samples, raters))
    return float(1 - (abs(true.max() - predicted.max()) + abs(true.min() - predicted.min())) / 2)


def pair_differences(masks: Masks, rule: PairRule = "variance", pixels: int | None = None) -> Matrix:
    """Return V of each pair i < j of a set; [0] for a single mask. With P a share of `pixels` (default: of the image):

    `variance`: the variance over pixels of A - B, P(A != B) - (P(A without B) - P(B without A))^2. `variance_self`: the
    same, of each mask with itself too, so that the least is 0. `dice`: 1 - Dice. `size_variance`: the absolute
    difference between the variances over pixels of A and of B, each P (1 - P).
    """
    upper = np.triu_indices(len(masks), 0 if rule == "variance_self" else 1)
    if not len(upper[0]):
        return np.zeros(1)
    if rule == "dice":
        return 1 - pairwise_dice(masks, masks)[upper]
    area, sizes = float(masks[0].size if pixels is None else pixels), _sizes(masks)
    if rule == "size_variance":
        variances = sizes / area * (1 - sizes / area)
        return np.abs(variances[:, None] - variances)[upper]
    common = _common(masks, masks)
    only_one, only_other = (sizes[:, None] - common) / area, (sizes[None] - common) / area
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


def _box_size(mask: NDArray[np.bool_]) -> int:
    """Return the number of pixels of the bounding box of a mask [*spatial]; of an empty one that of the image."""
    return mask[bounding_box(mask)].size if mask.any() else mask.size
