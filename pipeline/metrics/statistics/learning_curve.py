"""Learning curves: the mean score v(n) of models trained on n real pairs, fitted so that it never falls with n.

Two families, fitted to the means at the sizes n of a ladder, for many resamples of these means at once:

* power law v(n) = a - b n^-c with a <= 1, b >= 0 and 0.05 <= c <= 2, by weighted least squares. For a given c the fit
  is linear in a and b and has a closed form, so c alone is searched: on a logarithmic grid, then on finer ones around
  the best point;
* isotonic regression in log n, joined by a monotone cubic (PCHIP, Fritsch & Butland 1984).

Both interpolate only: power laws fitted to few samples do not extrapolate (Mahmood et al., CVPR 2022). Their inverses
are therefore infinite for a score outside of what the curve reaches between the smallest and the largest n.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Array = NDArray[np.float64]
EXPONENTS = (0.05, 2.0)  # bounds of c
GRID = np.geomspace(*EXPONENTS, 33)
REFINEMENTS, POINTS = 4, 9  # rounds of finer grids of c, and points of each
HALVINGS = 40  # steps of bisection, which leave 1e-12 of the distance between two sizes


class LearningCurve(Protocol):
    """Fits of [resamples] curves to the means at increasing sizes."""

    @property
    def sizes(self) -> Array:
        """The sizes n [K] at which the curves were measured."""
        ...

    def at(self, n: float) -> Array:
        """Return the scores [resamples] at one size between the smallest and the largest one measured."""
        ...

    def inverse(self, scores: Array) -> Array:
        """Return the sizes [resamples] at which the curves reach `scores` [resamples].

        Infinite where a score is above that at the largest size, minus infinite where it is below that at the smallest.
        """
        ...


@dataclass(frozen=True)
class PowerLaw:
    """Fits v(n) = asymptote - drop (n / n_1)^-exponent, each parameter [resamples]; n_1 is the smallest size."""

    sizes: Array
    asymptote: Array
    drop: Array
    exponent: Array

    def at(self, n: float) -> Array:
        """Return v(n) [resamples]. Raises ValueError for a size outside of what was measured."""
        _check_size(n, self.sizes)
        return self.asymptote - self.drop * (n / self.sizes[0]) ** -self.exponent

    def inverse(self, scores: Array) -> Array:
        """Return the n [resamples] with v(n) = `scores`, infinite where there is none (see LearningCurve)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            share = (self.asymptote - scores) / self.drop
            n = self.sizes[0] * share ** (-1 / self.exponent)
        ends = self.at(self.sizes[0]), self.at(self.sizes[-1])
        return _within(n, scores, self.sizes, ends)


@dataclass(frozen=True)
class MonotoneCurve:
    """Isotonic means [resamples, K], joined by a monotone cubic in log n."""

    sizes: Array
    means: Array

    def at(self, n: float) -> Array:
        """Return the scores [resamples] at one size. Raises ValueError for a size outside of what was measured."""
        _check_size(n, self.sizes)
        return self._curve(np.log(n))

    def inverse(self, scores: Array) -> Array:
        """Return the smallest n [resamples] with v(n) = `scores`, infinite where there is none (see LearningCurve)."""
        logs, rows = np.log(self.sizes), np.arange(len(self.means))
        piece = np.clip((self.means < scores[:, None]).sum(1) - 1, 0, len(logs) - 2)
        cubic = self._curve.c[:, piece, rows]
        low, high = np.zeros(len(rows)), np.diff(logs)[piece]
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            below = np.polyval(cubic, middle) < scores
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        ends = self.means[:, 0], self.means[:, -1]
        return _within(np.exp(logs[piece] + high), scores, self.sizes, ends)

    @cached_property
    def _curve(self) -> PchipInterpolator:
        return PchipInterpolator(np.log(self.sizes), self.means, axis=1)


def fit_power_law(sizes: Array, means: Array, weights: Array) -> PowerLaw:
    """Fit power laws to `means` [resamples, K] at increasing `sizes` [K] by least squares with `weights` [K].

    Raises ValueError with fewer than three sizes, which do not determine three parameters.
    """
    _check_ladder(sizes, means, weights, fewest=3)
    weights, ratios = weights / weights.sum(), sizes / sizes[0]
    step = np.log(GRID[1] / GRID[0])
    best = np.log(GRID[_solve(ratios[None] ** -GRID[:, None], means, weights)[2].argmin(1)])
    for _ in range(REFINEMENTS):
        near = best[:, None] + np.linspace(-step, step, POINTS)
        near = np.clip(near, *np.log(EXPONENTS))
        losses = _solve(ratios ** -np.exp(near)[..., None], means, weights)[2]
        best = near[np.arange(len(best)), losses.argmin(1)]
        step /= (POINTS - 1) / 2
    exponent = np.exp(best)
    asymptote, drop, _ = _solve(ratios ** -exponent[:, None, None], means, weights)
    return PowerLaw(sizes, asymptote[:, 0], drop[:, 0], exponent)


def _solve(x: Array, means: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Return a, b and the weighted sum of squares [resamples, C] of a - b x for x [C, K] or [resamples, C, K].

    The problem is convex, and at most one of a <= 1 and b >= 0 is active, as no mean exceeds 1.
    """
    centre, level = x @ weights, (means @ weights)[:, None]
    offsets = x - centre[..., None]
    y = means - level  # [resamples, K]
    spread = (offsets**2) @ weights
    covariance = _products(offsets, y * weights)
    b = np.maximum(-covariance / spread, 0.0)
    a = level + b * centre
    loss = ((y**2) @ weights)[:, None] - b**2 * spread
    squares, gaps = (x**2) @ weights, 1 - means
    products = _products(x, gaps * weights)
    b_at_one = products / squares
    loss_at_one = ((gaps**2) @ weights)[:, None] - products * b_at_one
    beyond = a > 1
    return np.where(beyond, 1.0, a), np.where(beyond, b_at_one, b), np.where(beyond, loss_at_one, loss)


def _products(x: Array, y: Array) -> Array:
    """Return the sums over K of x [C, K] or [resamples, C, K] times y [resamples, K], as [resamples, C]."""
    return y @ x.T if x.ndim == 2 else (x @ y[..., None])[..., 0]


def fit_monotone(sizes: Array, means: Array, weights: Array) -> MonotoneCurve:
    """Fit isotonic regressions to `means` [resamples, K] at increasing `sizes` [K] with `weights` [K].

    The value at k is the largest over i <= k of the smallest over j >= k of the weighted mean of i..j (Robertson,
    Wright & Dykstra 1988, theorem 1.4.4). Raises ValueError with fewer than two sizes.
    """
    _check_ladder(sizes, means, weights, fewest=2)
    count = len(sizes)
    sums = np.concatenate([np.zeros((len(means), 1)), (means * weights).cumsum(1)], axis=1)
    totals = np.concatenate([[0.0], weights.cumsum()])
    fitted = np.full_like(means, -np.inf)
    for first in range(count):
        averages = (sums[:, first + 1 :] - sums[:, first : first + 1]) / (totals[first + 1 :] - totals[first])
        least = np.minimum.accumulate(averages[:, ::-1], axis=1)[:, ::-1]  # over j >= k
        fitted[:, first:] = np.maximum(fitted[:, first:], least)
    return MonotoneCurve(sizes, fitted)


def _within(n: Array, scores: Array, sizes: Array, ends: tuple[Array, Array]) -> Array:
    """Return the sizes n, infinite where a score lies outside of the `ends` of a curve."""
    inside = np.clip(n, sizes[0], sizes[-1])
    return np.where(scores > ends[1], np.inf, np.where(scores < ends[0], -np.inf, inside))


def _check_size(n: float, sizes: Array) -> None:
    if not sizes[0] <= n <= sizes[-1]:
        raise ValueError(f"the curve was measured from n = {sizes[0]:g} to {sizes[-1]:g}; it has no value at {n:g}")


def _check_ladder(sizes: Array, means: Array, weights: Array, fewest: int) -> None:
    if len(sizes) < fewest or (np.diff(sizes) <= 0).any() or sizes[0] <= 0:
        raise ValueError(f"a curve needs at least {fewest} sizes above 0 that increase, found {sizes.tolist()}")
    if means.shape[1:] != sizes.shape or weights.shape != sizes.shape or (weights <= 0).any():
        raise ValueError("a curve needs a mean and a weight above 0 for each size")
