"""The polyp literature's mean Dice and mean IoU, threshold by threshold, as PraNet's evaluation describes them."""

import numpy as np


def swept(chance: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Mean Dice and IoU of probabilities [H, W] over the thresholds 1, 254/255 ... 0."""
    least, most = float(chance.min()), float(chance.max())
    wide = chance.astype(np.float64)
    if most > least:
        wide = (wide - least) / (most - least)
    dice, iou = [], []
    for level in range(255, -1, -1):
        found = wide >= level / 255
        hit = np.logical_and(found, true).sum()
        if hit == 0:
            dice.append(0.0)
            iou.append(0.0)
        else:
            wrong, missed = np.logical_and(found, ~true).sum(), np.logical_and(~found, true).sum()
            dice.append(2 * hit / (true.sum() + found.sum()))
            iou.append(hit / (hit + wrong + missed))
    return float(np.mean(dice)), float(np.mean(iou))
