"""Intervals for means over seeds and images: both are samples, and three seeds are few.

A bootstrap over three seeds is far too narrow: it finds sqrt(2/3) of the SD, and its tails are not Student's. Instead,
the interval of the seeds (Student's t at few degrees of freedom) and that of the images are added in squares (MOVER,
Zou & Donner 2008). To gain degrees of freedom, the variance between seeds is pooled over all arms of a segmenter, but
never taken as smaller than what the compared arms' own seeds show. The noise of seed x image is counted once, with the
images: it is taken out of the variance between seeds. Arms that share seeds share initial weights: what these do to
both cancels in the difference, seed by seed. docs/statistics.md tells how often this claims an effect
where there is none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

Table = NDArray[np.float64]  # [seeds, images], or [seeds, clusters] by by_cluster
SMALLEST_P = 1e-12


@dataclass(frozen=True)
class Noise:
    """Variance of one seed's mean over images, without noise of seed x image; and how well it is known."""

    variance: float  # may be below 0, as half of the estimates of a variance of 0 are
    df: float  # degrees of freedom


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and images with its interval and the two-sided p of mean 0."""

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class HalfWidth:
    """Half the width of an interval as a function of 1 - confidence; it has a part from seeds and one from images."""

    of_seeds: float
    df_seeds: float
    of_images: float
    df_images: float

    def at(self, p: float) -> float:
        """Return half the width of the interval at confidence 1 - p."""
        seeds = special.stdtrit(self.df_seeds, p / 2) ** 2 * self.of_seeds  # quantile of Student's t
        return float(np.sqrt(seeds + special.stdtrit(self.df_images, p / 2) ** 2 * self.of_images))


def by_cluster(table: Table, clusters: Sequence[str]) -> Table:
    """Return [seeds, clusters], one column per cluster of images; the mean over columns is the mean over images.

    A cluster's column is the seed's mean plus its images' summed deviations from it, scaled by clusters / images.
    """
    member = membership(tuple(clusters))
    means = table.mean(1, keepdims=True)
    return means + (table - means) @ member * (member.shape[1] / len(member))


def cluster_means(table: Table, clusters: Sequence[str]) -> Table:
    """Return [seeds, clusters], the plain mean of each cluster's images: columns that may be ranked.

    The columns of `by_cluster` may not: each holds a share of its seed's mean, and so of the largest cluster.
    """
    member = membership(tuple(clusters))
    return table @ member / member.sum(0)


@lru_cache(maxsize=8)
def membership(clusters: tuple[str, ...]) -> NDArray[np.float64]:
    """Return [images, clusters]: 1 where an image belongs to a cluster; clusters in the order of their names."""
    labels, index = np.unique(np.asarray(clusters), return_inverse=True)
    return np.eye(len(labels))[index]


def cell_noise(table: Table) -> float:
    """Return the variance of seed x image: what neither the seed's mean nor the image's mean explains."""
    seeds, images = table.shape
    if seeds < 2 or images < 2:
        return 0.0
    rest = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + table.mean()
    return float((rest**2).sum() / ((seeds - 1) * (images - 1)))


def seed_noise(tables: Sequence[Table]) -> Noise:
    """Pool the variance between seeds over k tables of S seeds.

    Differences to one reference are correlated by 1/2 (they share the reference's noise), their variances by 1/4: k
    tables know k (S - 1) / (1 + (k - 1) / 4) degrees of freedom, not k (S - 1). One seed knows nothing: variance 0.
    """
    count, seeds = len(tables), len(tables[0])
    if seeds < 2:
        return Noise(0.0, 1.0)
    variance = np.mean([_seed_variance(table) for table in tables])
    return Noise(float(variance), count * (seeds - 1) / (1 + (count - 1) / 4))


def unpaired_noise(one: Table, other: Table) -> Noise:
    """Return the noise of the difference of two arms whose seeds have nothing in common (Welch 1947)."""
    seeds = len(one)
    first, second = (max(seed_noise([table]).variance, 0.0) for table in (one, other))
    total = first + second
    if total == 0:
        return seed_noise([one])
    return Noise(total, total**2 * (seeds - 1) / (first**2 + second**2))


def _seed_variance(table: Table) -> float:
    return float(table.mean(1).var(ddof=1)) - cell_noise(table) / table.shape[1]


def half_width(table: Table, noise: Noise) -> HalfWidth:
    """Return the interval's half width for new seeds and new images; with one seed it covers new images only."""
    seeds, images = table.shape
    of_images = table.mean(0).var(ddof=1) / images if images > 1 else 0.0
    of_seeds = max(noise.variance, _seed_variance(table), 0.0) / seeds if seeds > 1 else 0.0
    return HalfWidth(of_seeds, noise.df, float(of_images), max(images - 1, 1))


def estimate(table: Table, noise: Noise, confidence: float) -> Estimate:
    """Estimate the mean of an arm, or of the difference of two arms, with an interval for new seeds and new images.

    With one seed the interval covers new images only; a caller must not decide on it.
    """
    mean, half = float(table.mean()), half_width(table, noise)
    width = half.at(1 - confidence)
    return Estimate(mean, mean - width, mean + width, p_value(abs(mean), half.at))


def equivalence_p(mean: float, half: HalfWidth, margin: float) -> float:
    """Return the p of two one-sided tests (TOST, Schuirmann 1987): small where the mean is surely within +-margin."""
    distance = margin - abs(mean)
    one_sided = p_value(abs(distance), half.at) / 2
    return one_sided if distance > 0 else 1 - one_sided


def p_value(distance: float, half: Callable[[float], float]) -> float:
    """Return the p at which the interval just reaches `distance`."""
    if distance == 0:
        return 1.0
    if half(SMALLEST_P) <= distance:
        return SMALLEST_P
    return float(optimize.root_scalar(lambda p: half(p) - distance, bracket=(SMALLEST_P, 1.0), xtol=1e-9).root)


def two_level_bootstrap(tables: NDArray[np.float64], resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return means [resamples, arms] of tables [arms, seeds, images], resampled.

    The same seeds and images are drawn again for all arms. The part from seeds is widened by sqrt(S / (S - 1)). A
    second opinion without a normal assumption; with few seeds still too narrow, because its tails are not Student's.
    """
    _, seeds, images = tables.shape
    means = tables.mean(2)  # [arms, seeds]
    grand = means.mean(1)
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples) / seeds
    widen = np.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0
    draws = grand + widen * drawn_seeds @ (means - grand[:, None]).T
    inner = tables - means[:, :, None]
    for part in np.array_split(np.arange(resamples), max(1, resamples * images // 2_000_000)):  # bounds the memory
        drawn_images = rng.multinomial(images, np.full(images, 1 / images), size=len(part)) / images
        for arm in range(len(tables)):
            draws[part, arm] += ((drawn_seeds[part] @ inner[arm]) * drawn_images).sum(1)
    return draws
