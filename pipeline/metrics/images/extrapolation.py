"""The Frechet distance of endlessly many images: a line in 1/n, read at 0 (Chong & Forsyth 2020).

Both sets are drawn at the same n: with one whole set the bias of that set would stay in the line's intercept.
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
    """A line's value at 0, as far as its points tell it."""

    value: float
    standard_error: float
    half: float  # of the 95 % interval


def frechet_infinity(real: Features, fake: Features, rng: np.random.Generator) -> Intercept:
    """The intercept for two sets of n > D rows; its error is that of the fit, not that of having these n images.

    Just above n = D the smallest subsets have fewer rows than columns, and some of the bias stays.
    """
    n, d = real.shape
    drawn = [size for size in sizes(n, d) for _ in range(1 if size == n else DRAWS)]
    found = [frechet_distance(_draw(real, size, rng), _draw(fake, size, rng)) for size in drawn]
    return line_at_zero(1 / np.array(drawn), np.array(found))


def sizes(n: int, d: int) -> list[int]:
    """At most POINTS set sizes, evenly spaced in 1/n, from n down to n / 2.

    Not below the D + 1 rows that a covariance of full rank needs, because there the bias is no line; but at least down
    to 0.7 n, because a shorter line does not tell its slope.
    """
    smallest = min(max(n / 2, d + 1), 0.7 * n)
    return sorted({round(1 / x) for x in np.linspace(1 / n, 1 / smallest, POINTS)}, reverse=True)


def line_at_zero(x: NDArray[np.float64], y: NDArray[np.float64]) -> Intercept:
    """Least squares through at least three points (x, y)."""
    spread = ((x - x.mean()) ** 2).sum()
    slope = ((x - x.mean()) * (y - y.mean())).sum() / spread
    value = float(y.mean() - slope * x.mean())
    variance = ((y - value - slope * x) ** 2).sum() / (len(x) - 2)
    error = float(np.sqrt(variance * (1 / len(x) + x.mean() ** 2 / spread)))
    return Intercept(value, error, float(stats.t.ppf(0.975, len(x) - 2) * error))


def _draw(rows: Features, size: int, rng: np.random.Generator) -> Features:
    return rows[rng.choice(len(rows), size, replace=False)]
