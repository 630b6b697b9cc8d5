"""The diversity term D_a of the CI score as public implementations compute it, one function for each, mask by mask.

Written from what these programs do (docs/protocol.md, "Several raters"); masks are boolean [n, H, W].
"""

import numpy as np


def variance(samples: np.ndarray, raters: np.ndarray) -> float:
    """The variance over pixels of the difference of each pair i < j."""
    found, true = (
        [
            float(np.var(masks[i].astype(float) - masks[j].astype(float)))
            for i in range(len(masks) - 1)
            for j in range(i + 1, len(masks))
        ]
        for masks in (samples, raters)
    )
    return 1 - (abs(max(true) - max(found)) + abs(min(true) - min(found))) / 2


def variance_self(samples: np.ndarray, raters: np.ndarray) -> float:
    """The same from the full table of pairs, whose diagonal is 0."""
    extremes = []
    for masks in (samples, raters):
        table = np.array([[np.var(one.astype(float) - other.astype(float)) for other in masks] for one in masks])
        extremes.append((table.max(), table.min()))
    (found_max, found_min), (true_max, true_min) = extremes
    return float(1 - (abs(found_max - true_max) + abs(found_min - true_min)) / 2)


def dice(samples: np.ndarray, raters: np.ndarray) -> float:
    """1 - Dice of each pair i < j; two empty masks agree."""

    def score(one: np.ndarray, other: np.ndarray) -> float:
        total = one.sum() + other.sum()
        return 2 * float((one & other).sum()) / float(total) if total else 1.0

    found, true = (
        [1 - score(masks[i], masks[j]) for i in range(len(masks)) for j in range(i + 1, len(masks))]
        for masks in (samples, raters)
    )
    return 1 - (abs(max(true) - max(found)) + abs(min(true) - min(found))) / 2


def size_variance(samples: np.ndarray, raters: np.ndarray) -> float:
    """The difference between the variances over pixels of both masks of each pair i < j.

    The program divides by one less than the number of pixels, here by the number.
    """
    found, true = (
        [
            abs(float(np.var(masks[i].astype(float))) - float(np.var(masks[j].astype(float))))
            for i in range(len(masks))
            for j in range(i + 1, len(masks))
        ]
        for masks in (samples, raters)
    )
    return 1 - (abs(max(true) - max(found)) + abs(min(true) - min(found))) / 2


def cropped(samples: np.ndarray, raters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets within the smallest rectangle that holds every pixel that any mask marks."""
    marked = [(row, column) for masks in (samples, raters) for _, row, column in np.argwhere(masks)]
    rows, columns = [row for row, _ in marked], [column for _, column in marked]
    box = slice(min(rows), max(rows) + 1), slice(min(columns), max(columns) + 1)
    return samples[:, *box], raters[:, *box]
