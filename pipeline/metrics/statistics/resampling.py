"""Resampling: bootstrap over clusters, group jackknife, sign-flip permutation, Holm, derangements."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


def bootstrap_means(values: Array, clusters: Sequence[object], resamples: int, rng: np.random.Generator) -> Array:
    """Return means [resamples] of values whose clusters (such as images of one mask) are drawn with replacement."""
    labels, index = np.unique(np.asarray(clusters), return_inverse=True)
    sums = np.bincount(index, weights=values)
    sizes = np.bincount(index)
    drawn = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=resamples)
    return drawn @ sums / (drawn @ sizes)


def percentile_interval(draws: Array, confidence: float = 0.95) -> tuple[float, float]:
    """Return the ends of the middle share `confidence` of bootstrap draws."""
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def jackknife_interval(
    value: float,
    without: Callable[[int], float],
    groups: int,
    confidence: float = 0.95,
    shares: Array | None = None,
) -> tuple[float, float]:
    """Return value +- t SE, SE^2 = (G - 1) / G sum (v_g - mean v)^2 over the values without group g (Shao & Wu 1989).

    Valid for smooth statistics, also those that a bootstrap biases through its repeated rows (Frechet distance). With
    the `shares` of all rows that the groups hold, which differ in size, SE is that of the delete-m_j jackknife (Busing,
    Meijer & Van der Leeden 1999): a bias in 1/n cancels in its pseudo-values however large a group is.
    """
    estimates = np.array([without(group) for group in range(groups)])
    if shares is None:
        error = np.sqrt((groups - 1) / groups * ((estimates - estimates.mean()) ** 2).sum())
    else:
        pseudo_values = (value - (1 - shares) * estimates) / shares
        centre = (shares * pseudo_values).sum()
        error = np.sqrt((shares / (1 - shares) * (pseudo_values - centre) ** 2).sum() / groups)
    half = stats.t.ppf((1 + confidence) / 2, groups - 1) * error
    return float(value - half), float(value + half)


@lru_cache(maxsize=2)
def random_signs(resamples: int, n: int, seed: int) -> NDArray[np.int8]:
    """Return [resamples, n] of -1 and 1, the same for every comparison that draws with one seed."""
    return np.random.default_rng(seed).integers(0, 2, size=(resamples, n), dtype=np.int8) * 2 - 1


def sign_flip_p(differences: Array, resamples: int, seed: int) -> float:
    """Return the two-sided p of mean 0 by flipping signs of paired differences; never below 1 / (resamples + 1).

    Differences that belong together (images of one patient) are summed by the caller and flip together.
    """
    observed, values = abs(differences.sum()), differences.astype(np.float32)
    signs = random_signs(resamples, len(differences), seed)
    parts = np.array_split(signs, max(1, signs.size // 2_000_000))  # as floats they are four times as large
    sums = np.concatenate([part.astype(np.float32) @ values for part in parts])
    extreme = np.abs(sums) >= observed * (1 - 1e-5)  # a tie counts, also one that rounding has broken
    return float((1 + extreme.sum()) / (1 + resamples))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the chance of any false claim in the family stays below the level (Holm 1979)."""
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()


def derangement(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return a random cycle through 0..n-1, so that nothing stays in its place (Sattolo 1986); n >= 2."""
    order = np.arange(n)
    for last in range(n - 1, 0, -1):
        other = int(rng.integers(last))
        order[[last, other]] = order[[other, last]]
    return order
