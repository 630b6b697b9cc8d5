"""Frechet distance of two sets of feature rows."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Array, Features


def frechet_distance(real: Features, fake: Features) -> float:
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) of rows [n, D] and [m, D], n, m >= 2 (Heusel 2017, eq. 6).

    Biased upwards by about 1/n (Chong & Forsyth 2020): only distances at equal n and m are comparable.

    >>> rows = np.random.default_rng(0).normal(size=(100, 4)).astype(np.float32)
    >>> round(frechet_distance(rows, rows + 1), 4)
    4.0
    """
    return distance_to(real)(fake)


def distance_to(real: Features) -> Callable[[Features], float]:
    """Return a function that computes the distance of any rows [m, D] to `real`, whose root is computed once."""
    mean, a = real.mean(0, dtype=np.float64), _root(real)

    def distance(fake: Features) -> float:
        gap, b = mean - fake.mean(0, dtype=np.float64), _root(fake)
        # tr sqrt(S1 S2) is the nuclear norm of a b^T: no matrix root, so no imaginary residue to drop.
        return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * _nuclear(a @ b.T))

    return distance


def without_blocks(
    real: Features, fake: Features, real_blocks: NDArray[np.integer], fake_blocks: NDArray[np.integer]
) -> Callable[[int], float]:
    """Return a function that computes the distance of all rows [n, D] and [m, D] but those of one block of each."""
    if min(len(real), len(fake)) > 2 * real.shape[1]:
        return lambda block: frechet_distance(real[real_blocks != block], fake[fake_blocks != block])
    a, b = _centred(real), _centred(fake)
    shared = a @ b.T  # of all rows, computed once
    offset = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)

    def estimate(left_out: int) -> float:
        of_real, of_fake = real_blocks != left_out, fake_blocks != left_out
        gap = offset + a[of_real].mean(0) - b[of_fake].mean(0)
        root = np.sqrt((of_real.sum() - 1) * (of_fake.sum() - 1))
        nuclear = _nuclear(_centred_twice(shared[np.ix_(of_real, of_fake)])) / root
        return float(gap @ gap + _spread(a[of_real]) + _spread(b[of_fake]) - 2 * nuclear)

    return estimate


def _spread(rows: Array) -> float:
    """Return the trace of the covariance (n - 1) of rows [n, D]."""
    n = len(rows)
    return float(((rows**2).sum() - n * (rows.mean(0) ** 2).sum()) / (n - 1))


def _root(rows: Features) -> Array:
    """Return a matrix R of at most D rows with R^T R = covariance (n - 1)."""
    centred = _centred(rows) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if centred.shape[0] > centred.shape[1] else centred


def _centred(rows: Features) -> Array:
    return rows - rows.mean(0, dtype=np.float64)


def _centred_twice(products: Array) -> Array:
    """Return inner products of rows [n, m] after subtracting the mean of each set."""
    return products - products.mean(0) - products.mean(1, keepdims=True) + products.mean()


def _nuclear(matrix: Array) -> float:
    return float(np.linalg.svd(matrix, compute_uv=False).sum())
