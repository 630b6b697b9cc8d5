"""What the learnt masks compute, written out pixel by pixel."""

import math

import numpy as np


def signed_distance(region: np.ndarray, reach: float) -> np.ndarray:
    """Distance [H, W] to the nearest pixel of the other kind, less half a pixel, as a share of `reach` sides."""
    side = len(region)
    result = np.zeros(region.shape)
    for row in range(side):
        for column in range(side):
            others = [
                math.hypot(row - down, column - right)
                for down in range(side)
                for right in range(side)
                if region[down, right] != region[row, column]
            ]
            value = min(others) - 0.5 if others else math.inf
            result[row, column] = max(-1.0, min(1.0, (value if region[row, column] else -value) / (reach * side)))
    return result


def best_overlap(one: np.ndarray, other: np.ndarray) -> float:
    """The largest intersection over union of two square silhouettes over the eight symmetries of a square."""
    best = 0.0
    for mirrored in (one, one[:, ::-1]):
        for turns in range(4):
            turned = np.rot90(mirrored, turns)
            both = sum(bool(a and b) for a, b in zip(turned.ravel(), other.ravel(), strict=True))
            either = sum(bool(a or b) for a, b in zip(turned.ravel(), other.ravel(), strict=True))
            best = max(best, both / either)
    return best


def weighted_loss(
    predicted: np.ndarray, clean: np.ndarray, alphas_cumprod: np.ndarray, k: np.ndarray, gamma: float
) -> float:
    """Hang et al. 2023 for a network that predicts the clean sample: the weight is min(SNR, gamma)."""
    total = 0.0
    for one, true, level in zip(predicted, clean, k, strict=True):
        ratio = alphas_cumprod[level] / (1 - alphas_cumprod[level])
        total += min(ratio, gamma) * float(((one - true) ** 2).mean())
    return total / len(k)
