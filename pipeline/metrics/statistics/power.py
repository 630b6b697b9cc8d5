"""How many images, seeds or trained generators a comparison needs: the power of the test of metrics.statistics.paired.

The test asks whether |mean| exceeds the half width, whose parts from seeds and from generators are themselves
estimates. Its power is the mean, over what these estimates may come out as (chi-squared), of the normal probability
that the mean lies beyond the half width.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from pipeline.metrics.statistics.paired import Noise, Table, cell_noise, kept_share, seed_noise

NODES = (np.arange(400) + 0.5) / 400  # probabilities at which the chi-squared distribution is evaluated
GENERATOR_NODES = (np.arange(100) + 0.5) / 100
MOST = 1_000_000  # images or seeds beyond which no number is taken as enough


@dataclass(frozen=True)
class VarianceComponents:
    """Variances of a paired difference: of a seed's mean, of an image's mean, of one seed on one image.

    `generators` and `generator_cells` are the variances of a generator's mean and of one generator on one image; they
    count only where a design has several generators.
    """

    seeds: float
    images: float
    cells: float
    arms: float = 1.0  # how many tables' worth of degrees of freedom the variance between seeds was pooled over
    generators: float = 0.0
    generator_cells: float = 0.0


def variance_components(table: Table, noise: Noise) -> VarianceComponents:
    """Estimate the variances of a table of differences [seeds, images]; noise of seed x image is subtracted."""
    seeds, images = table.shape
    cells = cell_noise(table)
    between_seeds = max(noise.unbiased, seed_noise([table]).unbiased)
    between_images = max(table.mean(0).var(ddof=1) - cells / seeds, 0.0) if images > 1 else 0.0
    arms = noise.df / (seeds - 1) if seeds > 1 else 1.0
    return VarianceComponents(between_seeds, float(between_images), cells, arms)


def power(
    effect: float, variances: VarianceComponents, seeds: int, images: int, level: float, generators: int = 1
) -> float:
    """Return the chance that a true difference of `effect` is found at this level with a design of these sizes."""
    of_cells, of_images = variances.cells / (seeds * images), variances.images / images
    df = variances.arms * (seeds - 1)
    squares = _estimated(variances.seeds / seeds, of_cells, df, seeds, NODES)
    error = variances.seeds / seeds + of_images + of_cells
    of_pairs = 0.0
    if generators > 1:
        of_pairs = variances.generator_cells / (generators * images)
        between, df_generators = variances.generators / generators, generators - 1
        other = _estimated(between, of_pairs, df_generators, generators, GENERATOR_NODES)
        squares = squares[:, None] * special.stdtrit(df, level / 2) ** 2
        squares = squares + other * special.stdtrit(df_generators, level / 2) ** 2
        error += between + of_pairs
    else:
        squares = squares * special.stdtrit(df, level / 2) ** 2
    half = np.sqrt(squares + special.stdtrit(images - 1, level / 2) ** 2 * (of_images + of_cells + of_pairs))
    if error == 0:
        return 1.0
    error = np.sqrt(error)
    return float((special.ndtr((effect - half) / error) + special.ndtr((-effect - half) / error)).mean())


def _estimated(between: float, cells: float, df: float, levels: int, nodes: Table) -> Table:
    """Return what the squared error of a level may be estimated as, at quantiles of its distribution."""
    observed = (between + cells) * special.chdtri(df, nodes) / df
    return np.maximum(observed - cells, kept_share(levels) * observed)


def images_needed(
    effect: float, variances: VarianceComponents, seeds: int, level: float, target: float, generators: int = 1
) -> int | None:
    """Return the fewest images with which `effect` is found with probability `target`; None where none suffices."""
    return _fewest(lambda images: power(effect, variances, seeds, images, level, generators) >= target)


def seeds_needed(
    effect: float, variances: VarianceComponents, images: int, level: float, target: float, generators: int = 1
) -> int | None:
    """Return the fewest seeds with which `effect` is found with probability `target`; None where none suffices."""
    return _fewest(lambda seeds: power(effect, variances, seeds, images, level, generators) >= target)


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
