"""Page's test of an ordered trend: does a score rise, or fall, with the multiplier?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats


@dataclass(frozen=True)
class Trend:
    """The direction of the ranks, and the two-sided p of no order."""

    direction: str  # "up" or "down"
    p: float


def page_trend(scores: NDArray[np.float64]) -> Trend:
    """Compute Page's L of scores [blocks, levels], levels in their order (Page 1963); exact where there are few blocks.

    Scores are ranked within a block, so a block may hold nothing of the other blocks, such as their common mean.
    Two-sided: twice the smaller p of a rise and of a fall, at most 1.
    """
    rise = float(stats.page_trend_test(scores).pvalue)
    fall = float(stats.page_trend_test(scores[:, ::-1]).pvalue)
    return Trend("up" if rise <= fall else "down", min(1.0, 2 * min(rise, fall)))
