"""Similarity of feature rows: cosine of pairs, of all pairs and of nearest rows; and pairs drawn from a set."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Array, Features


def unit(rows: Features) -> Array:
    """Return the rows [n, D] at length 1; a row of zeros is unchanged."""
    wide = rows.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)


def cosine(one: Features, other: Features) -> Array:
    """Return the cosine [n] of row k of one set and row k of the other."""
    return (unit(one) * unit(other)).sum(1)


def mean_cosine(one: Features, other: Features) -> float:
    """Return the mean cosine of all n m pairs of rows [n, D] and [m, D], as the product of the mean unit rows."""
    return float(unit(one).mean(0) @ unit(other).mean(0))


def mean_cosine_without(
    one: Features, other: Features, groups_of_one: NDArray[np.integer], groups_of_other: NDArray[np.integer]
) -> Callable[[int], float]:
    """Return a function that computes the mean cosine without the rows of one block, from sums per block."""
    count = int(max(groups_of_one.max(), groups_of_other.max())) + 1
    sums = []
    for rows, groups in ((one, groups_of_one), (other, groups_of_other)):
        member = np.eye(count)[groups]  # [n, groups]
        sums.append((member.T @ unit(rows), member.sum(0)))

    def estimate(left_out: int) -> float:
        first, second = ((total.sum(0) - total[left_out]) / (n.sum() - n[left_out]) for total, n in sums)
        return float(first @ second)

    return estimate


def draw_pairs(count: int, limit: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw pairs [p, 2] of different numbers below `count`, smaller first, each once: all, or `limit` at random."""
    total = count * (count - 1) // 2
    drawn = np.arange(total) if total <= limit else np.sort(rng.choice(total, limit, replace=False))
    ends = np.cumsum(np.arange(count - 1, 0, -1))  # pairs (0, ...), then (1, ...), and so on
    first = np.searchsorted(ends, drawn, side="right")
    return np.stack([first, drawn - (ends[first] if len(ends) else 0) + count], axis=1).astype(np.int64)


def bootstrap_pairs(
    values: Array,
    pairs: NDArray[np.integer],
    resamples: int,
    rng: np.random.Generator,
    clusters: NDArray[np.integer] | None = None,
) -> Array:
    """Return means of values of pairs whose members are drawn with replacement, without draws that have no pair.

    A pair is weighted by how often both its members were drawn. Intervals are too wide if each member is in few pairs,
    because the noise of a pair is then drawn twice. With `clusters`, the number of the cluster of each member, whole
    clusters are drawn; a pair inside one cluster is as likely to count as one across two.
    """
    members, index = np.unique(pairs, return_inverse=True)
    drawn_as = np.arange(len(members)) if clusters is None else clusters[members]
    names, cluster = np.unique(drawn_as, return_inverse=True)
    first, second = cluster[index.reshape(-1, 2)].T
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)
    inside = (1 - 1 / len(names)) * drawn[:, first]  # has the mean of a product of two clusters' numbers
    weights = np.where(first == second, inside, drawn[:, first] * drawn[:, second])
    total = weights.sum(1)
    has_pairs = total > 0
    return weights[has_pairs] @ values / total[has_pairs]
