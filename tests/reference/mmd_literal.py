"""Squared maximum mean discrepancy by plain double loops over pairs of rows."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def cubic(x: Array, y: Array) -> float:
    """(x.y / D + 1)^3."""
    return float((x @ y / len(x) + 1) ** 3)


def gaussian(x: Array, y: Array) -> float:
    """exp(-|x - y|^2 / (2 * 10^2))."""
    return float(np.exp(-((x - y) ** 2).sum() / 200))


def unbiased(real: Array, fake: Array, k: Callable[[Array, Array], float]) -> float:
    """Mean over pairs of distinct rows within each set, minus twice the mean over pairs between the sets."""
    n, m = len(real), len(fake)
    within_real = sum(k(real[i], real[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_fake = sum(k(fake[i], fake[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_real + within_fake - 2 * _between(real, fake, k)


def biased(real: Array, fake: Array, k: Callable[[Array, Array], float]) -> float:
    """The same with the pairs of a row with itself."""
    return _between(real, real, k) + _between(fake, fake, k) - 2 * _between(real, fake, k)


def _between(first: Array, second: Array, k: Callable[[Array, Array], float]) -> float:
    return sum(k(x, y) for x in first for y in second) / (len(first) * len(second))
