"""Confidence interval of a proportion."""

import numpy as np
from scipy import stats


def wilson_interval(count: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of the proportion count / n, n >= 1 (Wilson 1927); it holds near 0 and 1 too.

    The n observations are taken as independent.
    """
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre, width = count + z * z / 2, z * np.sqrt(count * (n - count) / n + z * z / 4)
    return max(0.0, float((centre - width) / (n + z * z))), min(1.0, float((centre + width) / (n + z * z)))
