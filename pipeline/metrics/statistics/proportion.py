"""Confidence intervals of a proportion."""

import numpy as np
from scipy import stats


def wilson_interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the proportion count / n, n >= 1 (Wilson 1927); it holds near 0 and 1 too.

    The n observations are taken as independent.
    """
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre, width = count + z * z / 2, z * np.sqrt(count * (n - count) / n + z * z / 4)
    return max(0.0, float((centre - width) / (n + z * z))), min(1.0, float((centre + width) / (n + z * z)))


def exact_interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the proportion count / n, n >= 1 (Clopper & Pearson 1934), which covers at least that.

    The n observations are taken as independent.
    """
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, count, n - count + 1)) if count else 0.0
    high = float(stats.beta.ppf(1 - tail, count + 1, n - count)) if count < n else 1.0
    return low, high
