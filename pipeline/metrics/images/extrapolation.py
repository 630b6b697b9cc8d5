"""The Frechet distance extrapolated to infinitely many images: a line in 1/n, evaluated at 0, in two variants.

As published (Chong & Forsyth 2020), only the synthetic set is subsampled and the whole real set stays: the intercept is
the distance of infinitely many synthetic images from this real set, and keeps the bias of its size. With both sets
subsampled to the same n, the intercept estimates the distance of the two distributions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.metrics.images.arrays import Features
from pipeline.metrics.images.frechet import distance_to, frechet_distance

POINTS = 6  # set sizes
DRAWS = 3  # random subsets per size


@dataclass(frozen=True)
class Intercept:
    """The value of a line at 0 with its uncertainty."""

    value: float
    standard_error: float
    half: float  # of the 95 % interval


def frechet_infinity(real: Features, fake: Features, rng: np.random.Generator) -> Intercept:
    """Return the intercept for all rows [n, D] of `real` and subsets of m > D rows of `fake`, as published.

    Its error is that of the fit, not that of having n and m images.
    """
    distance = distance_to(real)
    return _extrapolated(_subset_sizes(*fake.shape), lambda size: distance(_draw(fake, size, rng)))


def frechet_infinity_both(real: Features, fake: Features, rng: np.random.Generator) -> Intercept:
    """Return the intercept for subsets of two sets of n > D rows; its error is that of the fit, not of having n images.

    Just above n = D the smallest subsets have fewer rows than columns, and some of the bias stays.
    """
    return _extrapolated(
        _subset_sizes(*real.shape), lambda size: frechet_distance(_draw(real, size, rng), _draw(fake, size, rng))
    )


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


def _subset_sizes(n: int, d: int) -> list[int]:
    """Return every size as often as a subset of it is drawn; there is one subset of all rows."""
    return [size for size in sizes(n, d) for _ in range(1 if size == n else DRAWS)]


def _extrapolated(subset_sizes: Sequence[int], distance: Callable[[int], float]) -> Intercept:
    return line_at_zero(1 / np.array(subset_sizes), np.array([distance(size) for size in subset_sizes]))


def _draw(rows: Features, size: int, rng: np.random.Generator) -> Features:
    return rows[rng.choice(len(rows), size, replace=False)]
