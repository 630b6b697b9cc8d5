"""Dice and IoU averaged over 256 thresholds: the "mDice" and "mIoU" of the polyp literature (PraNet's toolbox)."""

import numpy as np
from numpy.typing import NDArray

LEVELS = 256


def swept_dice_iou(probability: NDArray[np.floating], true: NDArray[np.bool_]) -> tuple[float, float]:
    """Return mean Dice and mean IoU of probabilities [H, W], min-max normalised, at thresholds 0, 1/255 ... 1 (>=).

    A threshold without a true positive scores 0, so an image without a lesion scores 0 whatever was predicted. A
    constant map is not normalised. Normalising turns "no lesion" into noise of full range: for comparison with
    published tables only. One histogram of the lesion's pixels and one of the others give all thresholds at once,
    exactly.
    """
    level = np.floor(min_max_normalized(probability) * (LEVELS - 1)).astype(np.int64).ravel()
    inside, outside = (np.bincount(level[pixels], minlength=LEVELS) for pixels in (true.ravel(), ~true.ravel()))
    tp, fp = (np.cumsum(counts[::-1]) for counts in (inside, outside))  # at thresholds from 1 down to 0
    positives = int(true.sum())
    dice = 2 * tp / np.maximum(positives + tp + fp, 1)
    iou = tp / np.maximum(positives + fp, 1)
    return float(dice.mean()), float(iou.mean())


def min_max_normalized(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a map as float64, scaled to [0, 1] by its own minimum and maximum unless it is constant."""
    wide = values.astype(np.float64)
    low, high = wide.min(), wide.max()
    return (wide - low) / (high - low) if high > low else wide
