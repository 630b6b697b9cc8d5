"""Frechet distance as its formula is written: covariances and a matrix square root."""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg


def frechet_literal(real: NDArray[np.float64], fake: NDArray[np.float64]) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))."""
    gap = real.mean(0) - fake.mean(0)
    first, second = np.cov(real, rowvar=False), np.cov(fake, rowvar=False)
    root = linalg.sqrtm(first @ second).real
    return float(gap @ gap + np.trace(first + second - 2 * root))
