"""The Frechet distance extrapolated to infinitely many images: a line in 1/n, evaluated at 0 (Chong & Forsyth 2020).

Both sets are subsampled to the same n: if one set were used in full, its bias would stay in the intercept.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.metrics.images.arrays import Features
from pipeline.metrics.images.frechet import frechet_distance

POINTS = 6  # set sizes
DRAWS = 3  # random subsets per size


@dataclass(frozen=True)
class Intercept:
    """The value of a line at 0 with its uncertainty."""

    value: float
    standard_error: float
    half: float  # of the 95 % interval


def frechet_infinity(real: Features, fake: Features, rng: np.random.Generator) -> Intercept:
    """Return the intercept for two sets of n > D rows; its error is that of the fit, not that of having n images.

    Just above n = D the smallest subsets have fewer rows than columns, and some of the bias stays.
    """
    n, d = real.shape
    subset_sizes = [size for size in sizes(n, d) for _ in range(1 if size == n else DRAWS)]
    distances = [frechet_distance(_draw(real, size, rng), _draw(fake, size, rng)) for size in subset_sizes]
    return line_at_zero(1 / np.array(subset_sizes), np.array(distances))


def sizes(n: int, d: int) -> list[int]:
    """Return at most POINTS set sizes, evenly spaced in 1/n, from n down to n / 2.

    Not below the D + 1 rows that a covariance of full rank needs, because the bias is not linear there; but at least
    down to 0.7 n, because a shorter line does not determine its slope.
    """
    smallest = min(max(n / 2, d + 1), 0.7 * n)
    return sorted({round(1 / x) for x in np.linspace(1 / n, 1 / smallest, POINTS)}, reverse=True)


def line_at_zero(x: NDArray[np.float64], y: NDArray[np.float64]) -> Intercept:
    """Fit a line through at least three points (x, y) by least squares."""
    spread = ((x - x.mean()) ** 2).sum()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    value = float(y.mean() - slope * x.mean())
    variance = ((y - value - slope * x) ** 2).sum() / (len(x) - 2)
    error = float(np.sqrt(variance * (1 / len(x) + x.mean() ** 2 / spread)))
    return Intercept(value, error, float(stats.t.ppf(0.975, len(x) - 2) * error))


def _draw(rows: Features, size: int, rng: np.random.Generator) -> Features:
    return rows[rng.choice(len(rows), size, replace=False)]
