"""Precision, recall, density and coverage: is each image inside the other set, as k nearest neighbours span it?"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Features

Distances = NDArray[np.float32]
NAMES = ("precision", "recall", "density", "coverage")
BLOCK = 512  # rows whose distances to all others are held at once


@dataclass(frozen=True)
class Reach:
    """The nearest others of every row of a set, nearest first, so that radii without some rows are known too."""

    distances: Distances  # [n, m]
    neighbours: NDArray[np.int64]  # [n, m]

    def radii(self, k: int, is_kept: NDArray[np.bool_] | None = None) -> Distances:
        """Distance [n] to the k-th of the nearest others that are kept."""
        if is_kept is None:
            return self.distances[:, k - 1]
        place = (np.cumsum(is_kept[self.neighbours], axis=1) < k).sum(1)
        return self.distances[np.arange(len(place)), place]


def prdc(real: Features, fake: Features, k: int) -> dict[str, float]:
    """The four shares of rows [n, D] and [m, D], n and m > k (Kynkaanniemi et al. 2019; Naeem et al. 2020).

    precision: fakes inside a real ball; recall: reals inside a fake ball; density: real balls around a fake, by k;
    coverage: real balls with a fake inside. A ball reaches to the k-th nearest other row of its own set; its edge is
    outside. Distances are rounded to float32, as the authors' package does, so that equal distances tie.
    """
    everything = np.zeros((1, len(real)), bool), np.zeros((1, len(fake)), bool)
    return {name: float(value[0]) for name, value in zip(NAMES, _without(real, fake, k, *everything), strict=True)}


def prdc_without(real: Features, fake: Features, k: int, groups: NDArray[np.integer]) -> dict[str, NDArray[np.float64]]:
    """The four shares [G] of both sets (equally many rows) without the positions of each group, distances formed once.

    Every set that is left must hold more than k rows.
    """
    is_out = groups == np.arange(int(groups.max()) + 1)[:, None]  # [G, n]
    return dict(zip(NAMES, _without(real, fake, k, is_out, is_out), strict=True))


def _without(
    real: Features, fake: Features, k: int, real_out: NDArray[np.bool_], fake_out: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """[4, G]: the shares with other rows left out each time; bounded memory: no n x m table is kept."""
    times = range(len(real_out))
    reaches = (_reach(real, k + int(real_out.sum(1).max())), _reach(fake, k + int(fake_out.sum(1).max())))
    real_radii = [reaches[0].radii(k, ~out) for out in real_out]
    fake_radii = [reaches[1].radii(k, ~out) for out in fake_out]
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


def _reach(rows: Features, count: int) -> Reach:
    """The `count` nearest others of each row (fewer where there are not so many)."""
    near, who = [], []
    count = min(count, len(rows) - 1)
    for block, distances in _blocks(rows, rows):
        np.put_along_axis(distances, np.arange(len(rows))[block, None], np.inf, axis=1)  # a row is no other
        index = np.argpartition(distances, count - 1, axis=1)[:, :count]
        order = np.take_along_axis(distances, index, axis=1).argsort(axis=1, kind="stable")
        who.append(np.take_along_axis(index, order, axis=1))
        near.append(np.take_along_axis(distances, who[-1], axis=1))
    return Reach(np.concatenate(near), np.concatenate(who))


def _blocks(one: Features, other: Features) -> Iterator[tuple[slice, Distances]]:
    """Euclidean distances of some rows of one set to all of the other."""
    x, y = one.astype(np.float64), other.astype(np.float64)
    lengths = (y**2).sum(1)
    for start in range(0, len(x), BLOCK):
        part = x[start : start + BLOCK]
        squared = (part**2).sum(1)[:, None] - 2 * part @ y.T + lengths
        yield slice(start, start + len(part)), np.sqrt(np.maximum(squared, 0).astype(np.float32))
