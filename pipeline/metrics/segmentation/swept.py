"""Dice and IoU averaged over 256 thresholds: the "mDice" and "mIoU" of the polyp literature (PraNet's toolbox)."""

import numpy as np
from numpy.typing import NDArray

LEVELS = 256


def swept(chance: NDArray[np.floating], true: NDArray[np.bool_]) -> tuple[float, float]:
    """Mean Dice and mean IoU of probabilities [H, W], stretched to [0, 1], cut at 0, 1/255 ... 1 with >=.

    A threshold without a true positive scores 0, so an image without a lesion scores 0 whatever was predicted. A
    constant map is not stretched. Stretching turns "no lesion" into noise of full range: for comparison with published
    tables only. One histogram of the lesion's pixels and one of the others give all thresholds at once, exactly.
    """
    level = np.floor(stretched(chance) * (LEVELS - 1)).astype(np.int64).ravel()
    inside, outside = (np.bincount(level[pixels], minlength=LEVELS) for pixels in (true.ravel(), ~true.ravel()))
    hit, wrong = (np.cumsum(counts[::-1]) for counts in (inside, outside))  # at thresholds from 1 down to 0
    lesion = int(true.sum())
    dice = 2 * hit / np.maximum(lesion + hit + wrong, 1)
    iou = hit / np.maximum(lesion + wrong, 1)
    return float(dice.mean()), float(iou.mean())


def stretched(chance: NDArray[np.floating]) -> NDArray[np.float64]:
    """A map as float64, brought to [0, 1] by its own minimum and maximum unless it is constant."""
    wide = chance.astype(np.float64)
    least, most = wide.min(), wide.max()
    return (wide - least) / (most - least) if most > least else wide
