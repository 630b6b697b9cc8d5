"""Intervals of statistics of images that are not independent: bootstrap and jackknife over whole units.

A unit is a patient or a sequence where that is known, else the image or mask itself. With fewer than two units there is
no interval, and the reason is given instead.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.statistics.resampling import Array, jackknife_interval, percentile_interval

BLOCKS = 20  # of the jackknife, at most
Labels = NDArray[np.int64]  # one number per row


@dataclass(frozen=True)
class Units:
    """The independent unit of every row; `are_groups` says whether any of them is a patient or a sequence."""

    names: tuple[str, ...]
    are_groups: bool

    def __len__(self) -> int:
        return len(set(self.names))

    @property
    def n_groups(self) -> int | None:
        """Number of units, rows outside of any group included; None where no group is known."""
        return len(self) if self.are_groups else None


@dataclass(frozen=True)
class Interval:
    """Ends of a 95 % interval and the number of groups that it rests on; without ends the reason."""

    low: float | None
    high: float | None
    n_groups: int | None = None
    reason: str | None = None

    def clipped(self, least: float = -math.inf, most: float = math.inf) -> Self:
        """Return the interval cut at the ends of the scale."""
        if self.low is None or self.high is None:
            return self
        return replace(self, low=max(self.low, least), high=min(self.high, most))


@dataclass(frozen=True)
class Blocks:
    """The jackknife block of every row of two sets; each block leaves both sets together."""

    first: Labels  # [n]
    second: Labels  # [m]
    count: int
    n_groups: int | None = None

    @property
    def fewest_left(self) -> int:
        """Number of rows of the smaller set that remain when the largest block is left out."""
        sides = (np.bincount(side, minlength=self.count) for side in (self.first, self.second))
        return min(int(sizes.sum() - sizes.max()) for sizes in sides)

    def suffice(self, least: int = 2) -> bool:
        """Return whether there are two blocks, and `least` rows of each set remain when any of them is left out."""
        return self.count > 1 and self.fewest_left >= least

    @property
    def shares(self) -> Array | None:
        """Share of the rows in each block; None where blocks hold single rows dealt out evenly."""
        if self.n_groups is None:
            return None
        sizes = sum(np.bincount(side, minlength=self.count) / len(side) for side in (self.first, self.second))
        return np.asarray(sizes, np.float64) / 2


def percentile(draws: Array, *sides: Units) -> Interval:
    """Return the percentile interval of bootstrap draws of the units of one set, or of two sets of their own."""
    counts = [side.n_groups for side in sides if side.n_groups is not None]
    n_groups = min(counts, default=None)
    for side in sides:
        if len(side) < 2:
            return Interval(None, None, n_groups, _too_few(len(side), side.are_groups))
    return Interval(*percentile_interval(draws), n_groups)


def jackknife(value: float, without: Callable[[int], float], blocks: Blocks, least: int = 2) -> Interval:
    """Return the jackknife interval over blocks; `least` rows of each set must remain when a block is left out."""
    if blocks.count < 2:
        return Interval(None, None, blocks.n_groups, _too_few(blocks.count, blocks.n_groups is not None))
    if blocks.fewest_left < least:
        reason = f"without its largest group a set has {blocks.fewest_left} images; the statistic needs {least}"
        return Interval(None, None, blocks.n_groups, reason)
    return Interval(*jackknife_interval(value, without, blocks.count, shares=blocks.shares), blocks.n_groups)


def blocks_by_position(n: int, m: int) -> Blocks:
    """Deal out the positions of two sets of n and m rows evenly; equal positions are in one block."""
    count = min(BLOCKS, n, m)
    return Blocks(np.arange(n) % max(count, 1), np.arange(m) % max(count, 1), count)


def blocks_by_unit(first: Units, second: Units) -> Blocks:
    """Deal out whole units, the largest first, each into the block that has the fewest rows so far.

    A unit with rows in both sets is in one block. No block lacks rows of a set, and there are no more blocks than units
    in the smaller set.
    """
    count = min(BLOCKS, len(first), len(second))
    sizes = [Counter(side.names) for side in (first, second)]
    loads, block_of = np.zeros((2, max(count, 1)), np.int64), dict[str, int]()
    names = list(dict.fromkeys((*first.names, *second.names)))
    for name in sorted(names, key=lambda n: (not (n in sizes[0] and n in sizes[1]), -sizes[0][n] - sizes[1][n])):
        rows = np.array([side[name] for side in sizes])
        block_of[name] = int(loads[rows > 0].sum(0).argmin())
        loads[:, block_of[name]] += rows
    labels = [np.array([block_of[name] for name in side.names], np.int64) for side in (first, second)]
    counts = [side.n_groups for side in (first, second) if side.n_groups is not None]
    return Blocks(labels[0], labels[1], count, min(counts, default=None))


def labels_of(names: Sequence[str]) -> Labels:
    """Return the number of the unit of every row, in the order of the names."""
    return np.unique(np.asarray(names), return_inverse=True)[1].astype(np.int64)


def _too_few(count: int, are_groups: bool) -> str:
    what = ("group (such as a patient)", "groups") if are_groups else ("mask", "masks")
    return f"the images come from {count} {what[count != 1]}; an interval needs at least two"
