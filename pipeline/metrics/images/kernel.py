"""Kernels of distances between distributions: the cubic kernel of KID and the Gaussian kernel of CMMD."""

import numpy as np

from pipeline.metrics.images.arrays import Array, Features

SIGMA = 10.0  # of CMMD (Jayasumana et al. 2024)


def cubic(x: Features, y: Features) -> Array:
    """Return (x.y / D + 1)^3 for rows [n, D] and [m, D] -> [n, m] (Binkowski et al. 2018, eq. 4)."""
    return (x.astype(np.float64) @ y.astype(np.float64).T / x.shape[1] + 1) ** 3


def gaussian(x: Features, y: Features) -> Array:
    """Return exp(-|x - y|^2 / (2 sigma^2)) - 1 with sigma = 10 for rows [n, D] and [m, D] -> [n, m].

    The subtracted 1 cancels in a discrepancy; the rest keeps its precision where all kernel values are near 1.
    """
    x, y = x.astype(np.float64), y.astype(np.float64)
    squares = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    return np.expm1(-np.maximum(squares, 0) / (2 * SIGMA**2))


def unit_length(rows: Features) -> Array:
    """Return rows [n, D] divided by their Euclidean length; a row of zeros is unchanged."""
    wide = rows.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    return wide / np.where(length > 0, length, 1)
