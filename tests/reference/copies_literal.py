"""Distances to training images, written as they are said: one pair, one flip, one place at a time."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def pixel_distance(image: Array, train: Array, shift: int) -> float:
    """1 - the largest correlation of halved windows over four flips and all places."""
    side = image.shape[0] - 2 * shift
    middle = halved(train[shift : shift + side, shift : shift + side])
    best = -1.0
    for turned in (image, np.fliplr(image), np.flipud(image), np.flipud(np.fliplr(image))):
        for down in range(2 * shift + 1):
            for right in range(2 * shift + 1):
                window = halved(turned[down : down + side, right : right + side])
                best = max(best, float(np.corrcoef(window.ravel(), middle.ravel())[0, 1]))
    return 1 - best


def halved(window: Array) -> Array:
    """Means of 2 x 2 pixels."""
    half = len(window) // 2
    return np.array([[window[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].mean() for j in range(half)] for i in range(half)])


def feature_ratio(row: Array, train: Array, neighbours: int) -> float:
    """Least distance of unit rows over the mean of the `neighbours` least."""
    unit = row / np.linalg.norm(row)
    distances = sorted(float(np.linalg.norm(unit - other / np.linalg.norm(other))) for other in train)
    return distances[0] / float(np.mean(distances[:neighbours]))
