"""Precision, recall, density and coverage of manifolds that are estimated by k nearest neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Features

Distances = NDArray[np.float32]
NAMES = ("precision", "recall", "density", "coverage")
BLOCK = 512  # rows whose distances to all others are in memory at once


@dataclass(frozen=True)
class NeighbourTable:
    """The nearest other rows of every row of a set, nearest first, which gives radii without some rows too."""

    distances: Distances  # [n, m]
    neighbours: NDArray[np.int64]  # [n, m]

    def radii(self, k: int, is_kept: NDArray[np.bool_] | None = None) -> Distances:
        """Return the distance [n] to the k-th nearest other row that is kept."""
        if is_kept is None:
            return self.distances[:, k - 1]
        column = (np.cumsum(is_kept[self.neighbours], axis=1) < k).sum(1)
        return self.distances[np.arange(len(column)), column]


def prdc(real: Features, fake: Features, k: int) -> dict[str, float]:
    """Return the four shares of rows [n, D] and [m, D], n and m > k (Kynkaanniemi et al. 2019; Naeem et al. 2020).

    precision: fakes inside a real ball; recall: reals inside a fake ball; density: real balls around a fake, by k;
    coverage: real balls with a fake inside. A ball reaches to the k-th nearest other row of its own set, exclusively.
    Distances are rounded to float32, as in the authors' package, so that equal distances tie.
    """
    nothing_out = np.zeros((1, len(real)), bool), np.zeros((1, len(fake)), bool)
    return {name: float(value[0]) for name, value in zip(NAMES, _without(real, fake, k, *nothing_out), strict=True)}


def prdc_without(
    real: Features, fake: Features, k: int, real_blocks: NDArray[np.integer], fake_blocks: NDArray[np.integer]
) -> dict[str, NDArray[np.float64]]:
    """Return the four shares [G] of both sets without each block of theirs; distances are computed once.

    Every remaining set must have more than k rows.
    """
    numbers = np.arange(int(max(real_blocks.max(), fake_blocks.max())) + 1)[:, None]
    return dict(zip(NAMES, _without(real, fake, k, real_blocks == numbers, fake_blocks == numbers), strict=True))


def _without(
    real: Features, fake: Features, k: int, real_out: NDArray[np.bool_], fake_out: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return shares [4, G] without the given rows of each group; memory is bounded, no n x m table is kept."""
    times = range(len(real_out))
    tables = (
        _neighbour_table(real, k + int(real_out.sum(1).max())),
        _neighbour_table(fake, k + int(fake_out.sum(1).max())),
    )
    real_radii = [tables[0].radii(k, ~out) for out in real_out]
    fake_radii = [tables[1].radii(k, ~out) for out in fake_out]
    balls = np.zeros((len(times), len(fake)), np.int64)  # real balls around each fake
    inside, covered = np.zeros((2, len(times)), np.int64)
    for rows, distances in _blocks(real, fake):
        for g in times:
            is_in, kept = distances < real_radii[g][rows, None], ~real_out[g][rows]
            balls[g] += is_in[kept].sum(0)
            covered[g] += is_in[kept][:, ~fake_out[g]].any(1).sum()
            inside[g] += (distances < fake_radii[g])[kept][:, ~fake_out[g]].any(1).sum()
    n, m = (~real_out).sum(1), (~fake_out).sum(1)
    precision = ((balls > 0) & ~fake_out).sum(1) / m
    density = np.where(fake_out, 0, balls).sum(1) / (k * m)
    return np.stack([precision, inside / n, density, covered / n])


def _neighbour_table(rows: Features, count: int) -> NeighbourTable:
    """Return the `count` nearest other rows of each row (fewer if the set is smaller)."""
    near, indices = [], []
    count = min(count, len(rows) - 1)
    for block, distances in _blocks(rows, rows):
        np.put_along_axis(
            distances, np.arange(len(rows))[block, None], np.inf, axis=1
        )  # a row is not its own neighbour
        index = np.argpartition(distances, count - 1, axis=1)[:, :count]
        order = np.take_along_axis(distances, index, axis=1).argsort(axis=1, kind="stable")
        indices.append(np.take_along_axis(index, order, axis=1))
        near.append(np.take_along_axis(distances, indices[-1], axis=1))
    return NeighbourTable(np.concatenate(near), np.concatenate(indices))


def _blocks(one: Features, other: Features) -> Iterator[tuple[slice, Distances]]:
    """Yield Euclidean distances of blocks of rows of one set to all rows of the other."""
    x, y = one.astype(np.float64), other.astype(np.float64)
    lengths = (y**2).sum(1)
    for start in range(0, len(x), BLOCK):
        part = x[start : start + BLOCK]
        squared = (part**2).sum(1)[:, None] - 2 * part @ y.T + lengths
        yield slice(start, start + len(part)), np.sqrt(np.maximum(squared, 0).astype(np.float32))
