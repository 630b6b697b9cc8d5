"""Squared maximum mean discrepancy under any kernel, for many selections of rows in one pass over the kernel matrix.

The full matrix is never in memory. A selection says which rows form the first and which the second set; random subsets,
all rows but those of a block, and permuted labels are selections.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Array, Features

Selection = NDArray[np.bool_]  # [S, N]: which of N rows belong to a set, for S selections
Kernel = Callable[[Features, Features], Array]  # rows [n, D] and [m, D] -> [n, m]
BLOCK = 1024  # rows of the kernel matrix at a time


class Estimates(NamedTuple):
    """MMD^2 per selection [S]."""

    biased: Array  # Gretton et al. 2012, eq. 5: the mean over all pairs, also of a row with itself; never negative
    unbiased: Array  # eq. 3: without pairs of a row with itself; can be negative


@dataclass(frozen=True)
class Selections:
    """Two sets per selection, from the same N rows."""

    first: Selection
    second: Selection

    def __add__(self, other: "Selections") -> "Selections":
        """Return these selections, followed by the others."""
        return Selections(np.concatenate([self.first, other.first]), np.concatenate([self.second, other.second]))

    def __len__(self) -> int:
        return len(self.first)

    def first_few(self, count: int) -> "Selections":
        """Return the first `count` selections."""
        return Selections(self.first[:count], self.second[:count])


def mmd2(rows: Features, selections: Selections, kernel: Kernel) -> Estimates:
    """Return MMD^2 of the two sets of every selection of rows [N, D]; each set needs two rows."""
    first, second = selections.first.T.astype(np.float64), selections.second.T.astype(np.float64)
    pairs = {name: np.zeros(len(selections)) for name in ("first", "second", "cross", "first_self", "second_self")}
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        values = kernel(rows[block], rows)
        diagonal = np.diagonal(values, offset=start)
        by_second = values @ second
        pairs["first"] += (first[block] * (values @ first)).sum(0)
        pairs["second"] += (second[block] * by_second).sum(0)
        pairs["cross"] += (first[block] * by_second).sum(0)
        pairs["first_self"] += diagonal @ first[block]
        pairs["second_self"] += diagonal @ second[block]
    n, m = first.sum(0), second.sum(0)
    cross = 2 * pairs["cross"] / (n * m)
    distinct = (pairs["first"] - pairs["first_self"]) / (n * (n - 1))
    distinct += (pairs["second"] - pairs["second_self"]) / (m * (m - 1))
    return Estimates(pairs["first"] / n**2 + pairs["second"] / m**2 - cross, distinct - cross)


def all_rows(n: int, m: int) -> Selections:
    """Select the first n rows against the m rows after them."""
    first = np.arange(n + m)[None] < n
    return Selections(first, ~first)


def subsets(n: int, m: int, size: int, count: int, rng: np.random.Generator) -> Selections:
    """Draw `count` random subsets of `size` rows of each set without replacement; one, if they hold all rows."""
    count = 1 if size == n == m else count
    first, second = np.zeros((2, count, n + m), bool)
    for k in range(count):
        first[k, rng.choice(n, size, replace=False)] = True
        second[k, n + rng.choice(m, size, replace=False)] = True
    return Selections(first, second)


def without_blocks(first: NDArray[np.integer], second: NDArray[np.integer]) -> Selections:
    """Select all rows of two sets but those of one block; selection k leaves block k out of both sets."""
    numbers = np.arange(max(first.max(), second.max()) + 1)[:, None]
    kept, also_kept = first != numbers, second != numbers
    return Selections(
        np.concatenate([kept, np.zeros_like(also_kept)], 1), np.concatenate([np.zeros_like(kept), also_kept], 1)
    )


def permutations(n: int, m: int, count: int, rng: np.random.Generator) -> Selections:
    """Assign all n + m rows to the two sets at random, `count` times."""
    first = rng.permuted(np.tile(np.arange(n + m) < n, (count, 1)), axis=1)
    return Selections(first, ~first)


def group_permutations(
    first: NDArray[np.integer], second: NDArray[np.integer], count: int, rng: np.random.Generator
) -> Selections:
    """Assign the whole groups of two sets to the two sets at random, `count` times, as many groups to each as it has.

    `first` and `second` number the groups of the rows of each set, from 0; no group is in both. The sets' numbers of
    rows vary where groups differ in size. Exact where groups are independent and come from one distribution, sizes
    included.
    """
    n = int(first.max()) + 1
    groups = np.arange(n + int(second.max()) + 1)
    is_first = rng.permuted(np.tile(groups < n, (count, 1)), axis=1)[:, np.concatenate([first, n + second])]
    return Selections(is_first, ~is_first)


def permutation_p(observed: float, permuted: Array) -> float:
    """Return the p-value of "both sets have one distribution": how often permuted labels give at least this distance.

    Exact where the rows are independent of each other; never below 1 / (permutations + 1) (Phipson & Smyth 2010).
    """
    tolerance = 1e-9 * float(np.abs(permuted).max())  # equal but for rounding counts as equal
    return float((1 + (permuted >= observed - tolerance).sum()) / (1 + len(permuted)))
