"""Volumes on a common grid: canonical axes, a spacing in mm, a shape. Voxels [C, X, Y, Z] with affines [4, 4]."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.data import nifti

EQUAL = 1e-3  # relative difference between spacings that are the same
Voxels = NDArray[Any]
Way = Literal["linear", "nearest"]
Affine = NDArray[np.float64]


@dataclass(frozen=True)
class Turn:
    """How stored axes become right, front, top: which axis each of them is, and which run backwards."""

    axes: tuple[int, ...]
    backwards: tuple[bool, ...]

    @classmethod
    def of(cls, affine: Affine) -> "Turn":
        """The turn by which each axis runs as nearly as possible along its direction, without resampling."""
        directions = affine[:3, :3] / np.array(nifti.spacing(affine))
        axes = max(permutations(range(3)), key=lambda order: sum(abs(directions[i, a]) for i, a in enumerate(order)))
        return cls(axes, tuple(bool(directions[i, a] < 0) for i, a in enumerate(axes)))

    def voxels(self, stored: Voxels) -> Voxels:
        """[C, X, Y, Z] of [C, I, J, K]."""
        turned = stored.transpose(0, *(axis + 1 for axis in self.axes))
        return turned[(slice(None), *(slice(None, None, -1 if back else 1) for back in self.backwards))]

    def stored(self, voxels: Voxels) -> Voxels:
        """[C, I, J, K] of [C, X, Y, Z]."""
        turned = voxels[(slice(None), *(slice(None, None, -1 if back else 1) for back in self.backwards))]
        return turned.transpose(0, *(int(axis) + 1 for axis in np.argsort(self.axes)))

    def affine(self, stored: Affine, shape: Sequence[int]) -> Affine:
        """Of the turned voxels; `shape` is that of the stored ones [I, J, K]."""
        step = np.zeros((4, 4))
        step[3, 3] = 1
        for new, (axis, back) in enumerate(zip(self.axes, self.backwards, strict=True)):
            step[axis, new] = -1 if back else 1
            step[axis, 3] = shape[axis] - 1 if back else 0
        return stored @ step


@dataclass(frozen=True)
class Grid:
    """What every volume of a set is brought to."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None = None  # mm; None: as stored

    def put(self, voxels: Voxels, affine: Affine, way: Way) -> tuple[Voxels, Affine]:
        """Resampled, then cropped or padded with 0 around the middle; and where it lies now."""
        voxels, affine = self.spaced(voxels, affine, way)
        for axis, wanted in enumerate(self.shape):
            voxels, affine = _extended(voxels, affine, axis, wanted)
        return voxels, affine

    def spaced(self, voxels: Voxels, affine: Affine, way: Way) -> tuple[Voxels, Affine]:
        """Resampled to the spacing, at full extent."""
        for axis, wanted in enumerate(self.spacing or ()):
            voxels, affine = _spaced(voxels, affine, axis, wanted, way)
        return voxels, affine


def onto(voxels: Voxels, affine: Affine, wanted: Affine, shape: Sequence[int]) -> Voxels:
    """Values [C, X, Y, Z] at the voxels of another grid with the same axes, linear between them and 0 outside."""
    step = np.linalg.inv(affine) @ wanted
    for axis, count in enumerate(shape):
        places, last = step[axis, axis] * np.arange(count) + step[axis, 3], voxels.shape[axis + 1] - 1
        inside = (places > -0.5) & (places < last + 0.5)
        voxels = _taken(voxels, axis + 1, np.clip(places, 0, last), "linear")
        voxels = voxels * inside.reshape([-1 if a == axis + 1 else 1 for a in range(voxels.ndim)])
    return voxels


def same_spacing(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether two spacings differ by no more than rounding."""
    return bool(np.allclose(one, other, rtol=EQUAL, atol=0))


def distance(one: Affine, other: Affine, shape: Sequence[int]) -> float:
    """The largest distance in mm between a corner of a volume [I, J, K] by one affine and by the other."""
    corners = np.array(
        [[i, j, k, 1.0] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)]
    )
    return float(np.sqrt((((one - other) @ corners.T)[:3] ** 2).sum(0)).max())


def _spaced(voxels: Voxels, affine: Affine, axis: int, wanted: float, way: Way) -> tuple[Voxels, Affine]:
    """One axis at another spacing: as many voxels as its length holds, the middle stays in the middle."""
    found, count = nifti.spacing(affine)[axis], voxels.shape[axis + 1]
    if abs(found - wanted) <= EQUAL * wanted:
        return voxels, affine
    factor, new = wanted / found, max(1, round(count * found / wanted))
    first = (count - 1) / 2 - factor * (new - 1) / 2
    places = np.clip(first + factor * np.arange(new), 0, count - 1)
    return _taken(voxels, axis + 1, places, way), affine @ _step(axis, factor, first)


def _taken(voxels: Voxels, axis: int, places: NDArray[np.float64], way: Way) -> Voxels:
    """Values at places between voxels along one axis."""
    if way == "nearest":
        return np.take(voxels, np.floor(places + 0.5).astype(int).clip(max=voxels.shape[axis] - 1), axis)
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, voxels.shape[axis] - 1)
    weight = (places - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(voxels.ndim)])
    return np.take(voxels, low, axis) * (1 - weight) + np.take(voxels, high, axis) * weight


def _extended(voxels: Voxels, affine: Affine, axis: int, wanted: int) -> tuple[Voxels, Affine]:
    """One axis cropped or padded to so many voxels, on both sides alike; of an odd number one more at the end."""
    count = voxels.shape[axis + 1]
    first = (count - wanted) // 2 if count >= wanted else -((wanted - count) // 2)
    inside = voxels[(slice(None),) * (axis + 1) + (slice(max(0, first), max(0, first) + min(wanted, count)),)]
    around = [(0, 0)] * voxels.ndim
    around[axis + 1] = (max(0, -first), wanted - inside.shape[axis + 1] - max(0, -first))
    return np.pad(inside, around), affine @ _step(axis, 1, first)


def _step(axis: int, factor: float, first: float) -> Affine:
    """From new indices to old ones along one axis: first + factor * index."""
    step = np.eye(4)
    step[axis, axis], step[axis, 3] = factor, first
    return step
