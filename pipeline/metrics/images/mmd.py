"""Squared maximum mean discrepancy under any kernel: many selections of rows from one pass over the kernel matrix.

The matrix is never whole in memory. A selection says which rows stand for the first and which for the second set;
random subsets, all rows but those of a group, and permuted labels are selections.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Array, Features

Marks = NDArray[np.bool_]  # [S, N]: which of N rows belong to a set, for S selections
Kernel = Callable[[Features, Features], Array]  # rows [n, D] and [m, D] -> [n, m]
BLOCK = 1024  # rows of the kernel matrix at a time


class Estimates(NamedTuple):
    """MMD^2 per selection [S]."""

    biased: Array  # Gretton et al. 2012, eq. 5: the mean over all pairs, also of a row with itself; never negative
    unbiased: Array  # eq. 3: without pairs of a row with itself; may be negative


@dataclass(frozen=True)
class Selections:
    """Two sets per selection, out of the same N rows."""

    first: Marks
    second: Marks

    def __add__(self, other: "Selections") -> "Selections":
        """These selections, then the others."""
        return Selections(np.concatenate([self.first, other.first]), np.concatenate([self.second, other.second]))

    def __len__(self) -> int:
        return len(self.first)


def mmd2(rows: Features, chosen: Selections, kernel: Kernel) -> Estimates:
    """MMD^2 of the two sets of every selection from rows [N, D]; each set needs two rows."""
    first, second = chosen.first.T.astype(np.float64), chosen.second.T.astype(np.float64)
    pairs = {name: np.zeros(len(chosen)) for name in ("first", "second", "between", "first_self", "second_self")}
    for start in range(0, len(rows), BLOCK):
        block = slice(start, start + BLOCK)
        values = kernel(rows[block], rows)
        own = np.diagonal(values, offset=start)
        by_second = values @ second
        pairs["first"] += (first[block] * (values @ first)).sum(0)
        pairs["second"] += (second[block] * by_second).sum(0)
        pairs["between"] += (first[block] * by_second).sum(0)
        pairs["first_self"] += own @ first[block]
        pairs["second_self"] += own @ second[block]
    n, m = first.sum(0), second.sum(0)
    between = 2 * pairs["between"] / (n * m)
    distinct = (pairs["first"] - pairs["first_self"]) / (n * (n - 1))
    distinct += (pairs["second"] - pairs["second_self"]) / (m * (m - 1))
    return Estimates(pairs["first"] / n**2 + pairs["second"] / m**2 - between, distinct - between)


def whole(n: int, m: int) -> Selections:
    """The first n rows against the m rows after them."""
    first = np.arange(n + m)[None] < n
    return Selections(first, ~first)


def subsets(n: int, m: int, size: int, count: int, rng: np.random.Generator) -> Selections:
    """`count` random subsets of `size` rows of each set, drawn without replacement; one, if they hold all rows."""
    count = 1 if size == n == m else count
    first, second = np.zeros((2, count, n + m), bool)
    for k in range(count):
        first[k, rng.choice(n, size, replace=False)] = True
        second[k, n + rng.choice(m, size, replace=False)] = True
    return Selections(first, second)


def without_groups(groups: NDArray[np.integer]) -> Selections:
    """Two sets of as many rows as `groups` names; in selection k both lack the rows of group k."""
    kept = groups != np.arange(groups.max() + 1)[:, None]
    none = np.zeros_like(kept)
    return Selections(np.concatenate([kept, none], 1), np.concatenate([none, kept], 1))


def permutations(n: int, m: int, count: int, rng: np.random.Generator) -> Selections:
    """All n + m rows dealt anew to the two sets."""
    first = rng.permuted(np.tile(np.arange(n + m) < n, (count, 1)), axis=1)
    return Selections(first, ~first)


def permutation_p(observed: float, permuted: Array) -> float:
    """p of "both sets come from one distribution": how often dealing anew gives at least the observed distance.

    Exact where the rows are independent of each other; never below 1 / (permutations + 1) (Phipson & Smyth 2010).
    """
    tolerance = 1e-9 * float(np.abs(permuted).max())  # equal but for rounding counts as equal
    return float((1 + (permuted >= observed - tolerance).sum()) / (1 + len(permuted)))
