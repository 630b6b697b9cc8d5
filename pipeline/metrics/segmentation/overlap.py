"""Overlap of masks: Dice and intersection over union per image, on NumPy arrays."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Masks = NDArray[np.bool_]
ISIC = 0.65  # a Jaccard index below it counts as a failure in the ISIC challenges


def dice(predicted: Masks, true: Masks) -> NDArray[np.float64]:
    """Return 2|P∩T| / (|P|+|T|) of boolean masks [..., H, W]; 1 where both are empty.

    >>> true = np.zeros((8, 8), bool)
    >>> true[2:6, 2:6] = True
    >>> print(dice(np.roll(true, 1, axis=1), true))
    0.75
    """
    overlap, total = _sum(predicted & true), _sum(predicted) + _sum(true)
    return np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0)


def iou(predicted: Masks, true: Masks) -> NDArray[np.float64]:
    """Return |P∩T| / |P∪T| of boolean masks [..., H, W]; 1 where both are empty."""
    overlap, union = _sum(predicted & true), _sum(predicted | true)
    return np.where(union > 0, overlap / np.maximum(union, 1), 1.0)


def thresholded_jaccard(jaccard: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the Jaccard index, 0 where it counts as a failure."""
    return np.where(jaccard >= ISIC, jaccard, 0.0)


def mean_dice(predicted: NDArray[np.integer], true: NDArray[np.integer], num_classes: int) -> float:
    """Return the mean Dice over the foreground classes of label maps [*spatial]."""
    flat = predicted.reshape(1, -1), true.reshape(1, -1)
    return float(np.mean([dice(flat[0] == label, flat[1] == label) for label in range(1, num_classes)]))


def mean_over_occurring(
    score: Callable[[Masks, Masks], NDArray[np.float64]],
    predicted: NDArray[np.integer],
    true: NDArray[np.integer],
    num_classes: int,
) -> float:
    """Return the mean of `dice` or `iou` over the foreground classes in either label map [*spatial]; NaN without one.

    The endpoint of segmenters counts the classes in neither as found (docs/protocol.md); faithfulness must not.
    """
    flat = predicted.reshape(1, -1), true.reshape(1, -1)
    pairs = [(flat[0] == label, flat[1] == label) for label in range(1, num_classes)]
    scores = [score(one, other) for one, other in pairs if one.any() or other.any()]
    return float(np.mean(scores)) if scores else float("nan")


def mean_over_judges(
    score: Callable[[Masks, Masks], NDArray[np.float64]],
    predicted: Iterable[NDArray[np.integer]],
    true: NDArray[np.integer],
    num_classes: int,
) -> float:
    """Return the mean of `mean_over_occurring` over several predictions, without those that have none; NaN if none has.

    Each of `predicted`, such as the rows of an array [J, *spatial], is the label map of one judge.
    """
    values = [mean_over_occurring(score, found, true, num_classes) for found in predicted]
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def foreground_masks(labels: NDArray[np.integer], num_classes: int) -> Masks:
    """Return label maps [..., H, W] as one mask per foreground class: [..., K - 1, H, W]."""
    classes = np.arange(1, num_classes)[:, None, None]
    return labels[..., None, :, :] == classes


def _sum(masks: Masks) -> NDArray[np.int64]:
    return masks.sum(axis=(-2, -1), dtype=np.int64)
