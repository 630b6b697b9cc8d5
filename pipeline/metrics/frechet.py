"""Frechet distance of two sets of feature rows."""

import numpy as np
from numpy.typing import NDArray


def frechet_distance(real: NDArray[np.floating], fake: NDArray[np.floating]) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 sqrt(S1 S2)) of rows [n, D] and [m, D], n and m >= 2 (Heusel et al. 2017, eq. 6).

    Biased upwards by about 1/n (Chong & Forsyth 2020): only distances at equal n and m compare.
    """
    gap = real.mean(0, dtype=np.float64) - fake.mean(0, dtype=np.float64)
    a, b = _root(real), _root(fake)
    # tr sqrt(S1 S2) is the nuclear norm of a b^T: no matrix root, so no imaginary residue to drop.
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    return float(gap @ gap + (a**2).sum() + (b**2).sum() - 2 * shared)


def _root(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """A matrix R of at most D rows with R^T R = covariance (n - 1)."""
    centred = (rows - rows.mean(0, dtype=np.float64)) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if centred.shape[0] > centred.shape[1] else centred
