"""Intervals for means over seeds, images and trained generators: all are samples, and three seeds are few.

A bootstrap over three seeds is far too narrow: it finds sqrt(2/3) of the SD, and its tails are not Student's.
Instead, each level has an interval of its own (Student's t at its few degrees of freedom), and these are added in
squares (MOVER, Zou & Donner 2008). To gain degrees of freedom, the variance between seeds is pooled over all arms of
a segmenter, but never taken as smaller than what the compared arms' own seeds show. The noise of seed x image is
counted with the images and therefore subtracted from the variance between seeds; with few seeds that difference can
fall to zero by chance, so that a share of the observed variance always stays (`kept_share`). Arms that share seeds
share initial weights: what these do to both cancels in the difference, seed by seed. docs/statistics.md reports how
often this claims an effect where there is none.
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
    """Variance of one seed's mean over images, and how well it is known."""

    total: float  # as observed, including the noise of seed x image
    df: float  # degrees of freedom
    cells: float = 0.0  # the part of `total` expected from the noise of seed x image
    seeds: int = 2

    @property
    def variance(self) -> float:
        """The variance that a test uses: without the noise of seed x image, but never less than `kept_share`."""
        return max(self.total - self.cells, kept_share(self.seeds) * self.total)

    @property
    def unbiased(self) -> float:
        """The variance without the noise of seed x image, at least 0: what planning uses."""
        return max(self.total - self.cells, 0.0)


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds and images with its interval and the two-sided p of mean 0."""

    mean: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Part:
    """The squared standard error that one level (seeds, images, generators) contributes, and its degrees of freedom."""

    squared_error: float
    df: float


@dataclass(frozen=True)
class HalfWidth:
    """Half the width of an interval as a function of 1 - confidence: the parts of all levels, added in squares."""

    parts: tuple[Part, ...]

    def at(self, p: float) -> float:
        """Return half the width of the interval at confidence 1 - p."""
        squares = (special.stdtrit(part.df, p / 2) ** 2 * part.squared_error for part in self.parts)  # Student's t
        return float(np.sqrt(sum(squares)))


def kept_share(levels: int) -> float:
    """Return the share of the observed variance between so many seeds that is kept whatever is subtracted from it.

    3 / levels, at most 1: nothing is subtracted with three seeds, up to two fifths with five. By simulation
    (docs/statistics.md) this holds the rate of false claims at 6 % where nearly all noise is seed x image.
    """
    return min(1.0, 3 / levels)


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
    total = np.mean([table.mean(1).var(ddof=1) for table in tables])
    cells = np.mean([cell_noise(table) / table.shape[1] for table in tables])
    return Noise(float(total), count * (seeds - 1) / (1 + (count - 1) / 4), float(cells), seeds)


def unpaired_noise(one: Table, other: Table) -> Noise:
    """Return the noise of the difference of two arms whose seeds have nothing in common (Welch 1947)."""
    seeds = len(one)
    first, second = seed_noise([one]), seed_noise([other])
    total = first.variance + second.variance
    if total == 0:
        return first
    df = total**2 * (seeds - 1) / (first.variance**2 + second.variance**2)
    return Noise(first.total + second.total, df, first.cells + second.cells, seeds)


def half_width(table: Table, noise: Noise, generators: Table | None = None) -> HalfWidth:
    """Return the interval's half width for new seeds and new images; with one seed it covers new images only.

    `generators` [generators, images], the means over seeds by trained generator, adds the variance between generators.
    """
    seeds, images = table.shape
    parts = [Part(float(table.mean(0).var(ddof=1) / images) if images > 1 else 0.0, max(images - 1, 1))]
    if seeds > 1:
        parts.append(Part(max(noise.variance, seed_noise([table]).variance) / seeds, noise.df))
    if generators is not None and len(generators) > 1:
        between = seed_noise([generators])
        parts.append(Part(between.variance / len(generators), between.df))
    return HalfWidth(tuple(parts))


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
