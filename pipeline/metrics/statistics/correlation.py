"""Rank correlation of two measurements of the same things."""

from collections.abc import Sequence

import numpy as np
from scipy import stats


def spearman(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Return Spearman's rho, ties by mean ranks; None below three pairs or where one side is constant."""
    first, second = np.asarray(one, float), np.asarray(other, float)
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(stats.spearmanr(first, second).statistic)
