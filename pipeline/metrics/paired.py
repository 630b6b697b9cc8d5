"""Intervals for means over seeds and images: both are samples, and three seeds are few.

A bootstrap over three seeds is far too narrow: it finds sqrt(2/3) of the SD, and its tails are not Student's. Instead,
the variance of a mean is the sum of a part from seeds and a part from images, and the quantile is Student's t at the
degrees of freedom that this sum has (Satterthwaite 1946). The seed part is pooled over all arms of a segmenter, as in
an analysis of variance, but never smaller than what the compared arms' own seeds show. Seed-by-image noise is in both
parts, so the sum errs on the wide side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Table = NDArray[np.float64]  # [seeds, images]


@dataclass(frozen=True)
class SeedNoise:
    """Variance of an arm's mean over images from seed to seed, pooled over arms; nan and 0 with one seed."""

    variance: float
    df: int


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and images with its interval and the two-sided p of mean 0."""

    mean: float
    low: float
    high: float
    p: float


def seed_noise(arms: Sequence[Table]) -> SeedNoise:
    """Pools the variance between seeds over the arms of one segmenter."""
    df = sum(len(arm) - 1 for arm in arms)
    if df == 0:
        return SeedNoise(float("nan"), 0)
    squares = sum(float(((arm.mean(1) - arm.mean()) ** 2).sum()) for arm in arms)
    return SeedNoise(squares / df, df)


def estimate(table: Table, noise: SeedNoise, arms: int, confidence: float) -> Estimate:
    """Mean of an arm (`arms` 1) or of a paired difference of two arms (`arms` 2), for new seeds and new images.

    With one seed the noise of seeds is unknown and the interval speaks of images only; a caller must not decide on it.
    """
    seeds, images = table.shape
    of_images = table.mean(0).var(ddof=1) / images if images > 1 else 0.0
    of_seeds = 0.0
    if noise.df and seeds > 1:
        of_seeds = max(arms * noise.variance, table.mean(1).var(ddof=1)) / seeds
    return _student(float(table.mean()), (of_seeds, of_images), (max(noise.df, 1), max(images - 1, 1)), confidence)


def _student(mean: float, parts: tuple[float, float], dfs: tuple[int, int], confidence: float) -> Estimate:
    variance = sum(parts)
    if variance == 0:
        return Estimate(mean, mean, mean, 1.0 if mean == 0 else 0.0)
    df = variance**2 / sum(part**2 / df for part, df in zip(parts, dfs, strict=True))
    error = np.sqrt(variance)
    half = stats.t.ppf((1 + confidence) / 2, df) * error
    return Estimate(mean, float(mean - half), float(mean + half), float(2 * stats.t.sf(abs(mean) / error, df)))


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
