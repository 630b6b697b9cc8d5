"""Learning curves and their bootstrap word for word: one curve at a time, by scipy's curve_fit and PCHIP."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator
from scipy.optimize import brentq, curve_fit, isotonic_regression

Array = NDArray[np.float64]


def power_law(n: Array, a: float, b: float, c: float) -> Array:
    """v(n) = a - b (n / 100)^-c."""
    return a - b * (n / 100) ** -c


def fitted_power_law(sizes: Array, means: Array, weights: Array) -> tuple[Array, float]:
    """The fit at the sizes and its weighted sum of squares: the best of several starts of curve_fit."""
    best: tuple[Array, float] | None = None
    for start in (0.06, 0.2, 0.5, 1.0, 1.8):
        found, _ = curve_fit(
            power_law,
            sizes,
            means,
            (min(means.max(), 0.99), 0.1, start),
            sigma=1 / np.sqrt(weights),
            bounds=([-np.inf, 0, 0.05], [1, np.inf, 2]),
            ftol=1e-15,
            xtol=1e-15,
            gtol=1e-15,
            max_nfev=20_000,
        )
        fit = power_law(sizes, *found)
        loss = float((weights * (fit - means) ** 2).sum())
        if best is None or loss < best[1]:
            best = fit, loss
    assert best is not None
    return best


def monotone(sizes: Array, means: Array, weights: Array) -> Callable[[float], float]:
    """Isotonic means (pool adjacent violators), joined by scipy's PCHIP over log n."""
    curve = PchipInterpolator(np.log(sizes), isotonic_regression(means, weights=weights).x)
    return lambda n: float(curve(np.log(n)))


def inverse(curve: Callable[[float], float], sizes: Array, score: float) -> float:
    """The n at which a curve reaches a score, by Brent's method; infinite outside."""
    if score > curve(sizes[-1]):
        return np.inf
    if score < curve(sizes[0]):
        return -np.inf
    root = brentq(lambda n: curve(n) - score, sizes[0], sizes[-1], xtol=1e-10)
    assert isinstance(root, float)
    return root


def cell_noise(table: Array) -> float:
    """The variance of model x unit [models, units], by the residuals of both means."""
    models, units = table.shape
    total = 0.0
    for model in range(models):
        for unit in range(units):
            rest = table[model, unit] - table[model].mean() - table[:, unit].mean() + table.mean()
            total += rest**2
    return total / ((models - 1) * (units - 1))


def covariance_of_means(tables: Sequence[Array]) -> Array:
    """The covariance of the mean scores of several runs [models, units] under new models and new units.

    New units: their covariance without the noise of cells, over their number. New models: the variance of each run's
    model means, over their number.
    """
    units = tables[0].shape[1]
    profiles = [table.mean(0) for table in tables]
    result = np.zeros((len(tables), len(tables)))
    for i, first in enumerate(profiles):
        for j, second in enumerate(profiles):
            shared = sum((first[u] - first.mean()) * (second[u] - second.mean()) for u in range(units)) / (units - 1)
            if i == j:
                models = len(tables[i])
                shared -= cell_noise(tables[i]) / models
                result[i, j] += tables[i].mean(1).var(ddof=1) / models
            result[i, j] += shared / units
    return result
