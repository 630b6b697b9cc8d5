"""How many images or seeds a comparison of two arms needs: the power of the test of metrics.statistics.paired.

The test asks whether |mean| exceeds the half width whose part from seeds is itself an estimate. Its power is the mean,
over what that estimate may come out as (chi-squared), of the normal probability that the mean lies beyond it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from pipeline.metrics.statistics.paired import Noise, Table, cell_noise

NODES = (np.arange(400) + 0.5) / 400  # probabilities at which the chi-squared distribution is evaluated
MOST = 1_000_000  # images or seeds beyond which no number is taken as enough


@dataclass(frozen=True)
class VarianceComponents:
    """Variances of a paired difference: of a seed's mean, of an image's mean, of one seed on one image."""

    seeds: float
    images: float
    cells: float
    arms: float = 1.0  # how many tables' worth of degrees of freedom the variance between seeds was pooled over


def variance_components(table: Table, noise: Noise) -> VarianceComponents:
    """Estimate the variances of a table of differences [seeds, images]; that between seeds as the test takes it."""
    seeds, images = table.shape
    cells = cell_noise(table)
    between_seeds = table.mean(1).var(ddof=1) - cells / images if seeds > 1 else 0.0
    between_images = max(table.mean(0).var(ddof=1) - cells / seeds, 0.0) if images > 1 else 0.0
    arms = noise.df / (seeds - 1) if seeds > 1 else 1.0
    return VarianceComponents(max(noise.variance, float(between_seeds), 0.0), float(between_images), cells, arms)


def power(effect: float, variances: VarianceComponents, seeds: int, images: int, level: float) -> float:
    """Return the chance that a true difference of `effect` is found at this level with so many seeds and images."""
    of_cells = variances.cells / (seeds * images)
    of_seeds, of_images = variances.seeds / seeds, variances.images / images
    df = variances.arms * (seeds - 1)
    estimated = (of_seeds + of_cells) * special.chdtri(df, NODES) / df - of_cells
    half = np.sqrt(
        special.stdtrit(df, level / 2) ** 2 * np.maximum(estimated, 0)
        + special.stdtrit(images - 1, level / 2) ** 2 * (of_images + of_cells)
    )
    error = np.sqrt(of_seeds + of_images + of_cells)
    if error == 0:
        return 1.0
    return float((special.ndtr((effect - half) / error) + special.ndtr((-effect - half) / error)).mean())


def images_needed(effect: float, variances: VarianceComponents, seeds: int, level: float, target: float) -> int | None:
    """Return the fewest images with which `effect` is found with probability `target`; None where seeds prevent it."""
    return _fewest(lambda images: power(effect, variances, seeds, images, level) >= target)


def seeds_needed(effect: float, variances: VarianceComponents, images: int, level: float, target: float) -> int | None:
    """Return the fewest seeds with which `effect` is found with probability `target`; None where images prevent it."""
    return _fewest(lambda seeds: power(effect, variances, seeds, images, level) >= target)


def detectable(variances: VarianceComponents, seeds: int, images: int, level: float, target: float) -> float:
    """Return the smallest true difference that is found with probability `target`."""
    low, high = 0.0, 1.0
    while power(high, variances, seeds, images, level) < target:
        high *= 2
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle, variances, seeds, images, level) >= target else (middle, high)
    return high


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """Return the smallest number from 2 on that is enough, by bisection: more is never worse."""
    if not enough(MOST):
        return None
    low, high = 1, MOST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
