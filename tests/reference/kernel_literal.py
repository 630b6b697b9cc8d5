"""Unbiased MMD^2 by three plain double loops over pairs of rows."""

import numpy as np
from numpy.typing import NDArray


def mmd2_literal(real: NDArray[np.float64], fake: NDArray[np.float64]) -> float:
    """Mean over pairs of distinct rows within each set, minus twice the mean over pairs between the sets."""

    def k(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n, m = len(real), len(fake)
    within_real = sum(k(real[i], real[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_fake = sum(k(fake[i], fake[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    between = sum(k(x, y) for x in real for y in fake) / (n * m)
    return within_real + within_fake - 2 * between
