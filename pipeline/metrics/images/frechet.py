"""Frechet distance of two sets of feature rows."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Array, Features


def frechet_distance(real: Features, fake: Features) -> float:
    """Return |m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) of rows [n, D] and [m, D], n, m >= 2 (Heusel 2017, eq. 6).

    Biased upwards by about 1/n (Chong & Forsyth 2020): only distances at equal n and m are comparable.
    """
    gap = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)
    a, b = _root(real), _root(fake)
    # tr sqrt(S1 S2) is the nuclear norm of a b^T: no matrix root, so no imaginary residue to drop.
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * _nuclear(a @ b.T))


def without_groups(real: Features, fake: Features, groups: NDArray[np.integer]) -> Callable[[int], float]:
    """Return a function that computes the distance of all rows (equally many per set) but those of one group."""
    if len(real) > 2 * real.shape[1]:
        return lambda group: frechet_distance(real[groups != group], fake[groups != group])
    a, b = _centred(real), _centred(fake)
    shared, gaps = a @ b.T, a - b  # of all rows, computed once
    offset = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)
    squares = (a**2).sum(1) + (b**2).sum(1)

    def estimate(left_out: int) -> float:
        kept = groups != left_out
        n = int(kept.sum())
        gap = offset + gaps[kept].mean(0)
        spread = squares[kept].sum() - n * ((a[kept].mean(0) ** 2).sum() + (b[kept].mean(0) ** 2).sum())
        return float(gap @ gap + (spread - 2 * _nuclear(_centred_twice(shared[np.ix_(kept, kept)]))) / (n - 1))

    return estimate


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
