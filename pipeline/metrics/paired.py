"""Intervals for means over seeds and images: both are samples, and three seeds are few.

A bootstrap over three seeds is far too narrow: it finds sqrt(2/3) of the SD, and its tails are not Student's. Instead,
the interval of the seeds (Student's t at few degrees of freedom) and that of the images are added in squares (MOVER,
Zou & Donner 2008). To gain degrees of freedom, the variance between seeds is pooled over all arms of a segmenter, but
never taken as smaller than what the compared arms' own seeds show. Noise of seed x image is in both parts, so the
interval errs on the wide side. Arms that share seeds share initial weights: what these do to both cancels in the
difference, seed by seed. tests/pipeline/test_comparison.py simulates how often this claims an effect that is none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Table = NDArray[np.float64]  # [seeds, images]
SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Noise:
    """Variance, from seed to seed, of a mean over images; and how well it is known."""

    variance: float
    df: float  # degrees of freedom


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and images with its interval and the two-sided p of mean 0."""

    mean: float
    low: float
    high: float
    p: float


def seed_noise(tables: Sequence[Table]) -> Noise:
    """Pools the variance between seeds over k tables of S seeds.

    Differences to one reference are correlated by 1/2 (they share the reference's noise), their variances by 1/4: k
    tables know k (S - 1) / (1 + (k - 1) / 4) degrees of freedom, not k (S - 1). One seed knows nothing: variance 0.
    """
    count, seeds = len(tables), len(tables[0])
    if seeds < 2:
        return Noise(0.0, 1.0)
    variance = np.mean([table.mean(1).var(ddof=1) for table in tables])
    return Noise(float(variance), count * (seeds - 1) / (1 + (count - 1) / 4))


def unpaired_noise(one: Table, other: Table) -> Noise:
    """Noise of the difference of two arms whose seeds have nothing in common (Welch 1947)."""
    first, second = seed_noise([one]), seed_noise([other])
    total = first.variance + second.variance
    if total == 0:
        return first
    return Noise(total, total**2 / (first.variance**2 / first.df + second.variance**2 / second.df))


def estimate(table: Table, noise: Noise, confidence: float) -> Estimate:
    """Mean of an arm, or of the difference of two arms, with an interval for new seeds and new images.

    With one seed the interval speaks of images only; a caller must not decide on it.
    """
    seeds, images = table.shape
    of_images = table.mean(0).var(ddof=1) / images if images > 1 else 0.0
    of_seeds = max(noise.variance, table.mean(1).var(ddof=1)) / seeds if seeds > 1 else 0.0
    mean = float(table.mean())

    def half(p: float) -> float:
        """Half the width of the interval at confidence 1 - p."""
        from_seeds = special.stdtrit(noise.df, p / 2) ** 2 * of_seeds  # quantile of Student's t
        return float(np.sqrt(from_seeds + special.stdtrit(max(images - 1, 1), p / 2) ** 2 * of_images))

    width = half(1 - confidence)
    return Estimate(mean, mean - width, mean + width, _p_of(abs(mean), half))


def _p_of(distance: float, half: Callable[[float], float]) -> float:
    """The p at which the interval just reaches `distance`."""
    if distance == 0:
        return 1.0
    if half(SMALLEST_P) <= distance:
        return SMALLEST_P
    return float(optimize.root_scalar(lambda p: half(p) - distance, bracket=(SMALLEST_P, 1.0)).root)


def two_level_bootstrap(table: Table, resamples: int, rng: np.random.Generator) -> Table:
    """Means [resamples] with seeds and images drawn again; the part from seeds is widened by sqrt(S / (S - 1)).

    A second opinion without a normal assumption; with few seeds still too narrow, because its tails are not Student's.
    """
    seeds, images = table.shape
    grand = table.mean()
    of_seeds = table.mean(1) - grand
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    drawn_images = rng.multinomial(images, np.full(images, 1 / images), size=resamples) / images
    inner = table - table.mean(1, keepdims=True)
    widen = np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    return grand + widen * (drawn_seeds @ of_seeds) + ((drawn_seeds @ inner) * drawn_images).sum(1)
