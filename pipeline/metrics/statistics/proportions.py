"""Intervals of shares."""

import numpy as np
from scipy import stats


def wilson_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the interval of a share of independent trials (Wilson 1927), which holds near 0 and 1 too; total >= 1."""
    z = float(stats.norm.ppf((1 + confidence) / 2))
    centre, width = count + z * z / 2, z * np.sqrt(count * (total - count) / total + z * z / 4)
    return max(0.0, float((centre - width) / (total + z * z))), min(1.0, float((centre + width) / (total + z * z)))
