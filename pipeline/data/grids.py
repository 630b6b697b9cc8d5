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
Interpolation = Literal["linear", "nearest"]
Affine = NDArray[np.float64]


@dataclass(frozen=True)
class Reorientation:
    """The permutation and flips that map stored axes to right, front, top."""

    axes: tuple[int, ...]
    flipped: tuple[bool, ...]

    @classmethod
    def from_affine(cls, affine: Affine) -> "Reorientation":
        """Return the reorientation that brings each axis closest to its direction, without resampling."""
        directions = affine[:3, :3] / np.array(nifti.spacing(affine))
        axes = max(permutations(range(3)), key=lambda order: sum(abs(directions[i, a]) for i, a in enumerate(order)))
        return cls(axes, tuple(bool(directions[i, a] < 0) for i, a in enumerate(axes)))

    def apply(self, stored: Voxels) -> Voxels:
        """Return [C, X, Y, Z] of [C, I, J, K]."""
        reoriented = stored.transpose(0, *(axis + 1 for axis in self.axes))
        return reoriented[(slice(None), *(slice(None, None, -1 if is_flipped else 1) for is_flipped in self.flipped))]

    def invert(self, voxels: Voxels) -> Voxels:
        """Return [C, I, J, K] of [C, X, Y, Z]."""
        reoriented = voxels[(slice(None), *(slice(None, None, -1 if is_flipped else 1) for is_flipped in self.flipped))]
        return reoriented.transpose(0, *(int(axis) + 1 for axis in np.argsort(self.axes)))

    def affine(self, stored: Affine, shape: Sequence[int]) -> Affine:
        """Return the affine of the reoriented voxels; `shape` is the shape [I, J, K] of the stored ones."""
        step = np.zeros((4, 4))
        step[3, 3] = 1
        for new, (axis, is_flipped) in enumerate(zip(self.axes, self.flipped, strict=True)):
            step[axis, new] = -1 if is_flipped else 1
            step[axis, 3] = shape[axis] - 1 if is_flipped else 0
        return stored @ step


@dataclass(frozen=True)
class Grid:
    """The shape and spacing that all volumes of a set share."""

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float] | None = None  # mm; None: as stored

    def fit(self, voxels: Voxels, affine: Affine, interpolation: Interpolation) -> tuple[Voxels, Affine]:
        """Return voxels resampled, then cropped or zero-padded around the centre, and their affine."""
        voxels, affine = self.resample(voxels, affine, interpolation)
        for axis, count in enumerate(self.shape):
            voxels, affine = _crop_or_pad(voxels, affine, axis, count)
        return voxels, affine

    def resample(self, voxels: Voxels, affine: Affine, interpolation: Interpolation) -> tuple[Voxels, Affine]:
        """Return voxels resampled to the spacing, at full extent, and their affine."""
        for axis, spacing in enumerate(self.spacing or ()):
            voxels, affine = _resample_axis(voxels, affine, axis, spacing, interpolation)
        return voxels, affine


def resample_onto(voxels: Voxels, affine: Affine, target: Affine, shape: Sequence[int]) -> Voxels:
    """Return values [C, X, Y, Z] at the voxels of another grid with the same axes: linear, 0 outside."""
    step = np.linalg.inv(affine) @ target
    for axis, count in enumerate(shape):
        positions, last = step[axis, axis] * np.arange(count) + step[axis, 3], voxels.shape[axis + 1] - 1
        inside = (positions > -0.5) & (positions < last + 0.5)
        voxels = _interpolate(voxels, axis + 1, np.clip(positions, 0, last), "linear")
        voxels = voxels * inside.reshape([-1 if a == axis + 1 else 1 for a in range(voxels.ndim)])
    return voxels


def same_spacing(one: Sequence[float], other: Sequence[float]) -> bool:
    """Return whether two spacings are equal but for rounding."""
    return bool(np.allclose(one, other, rtol=EQUAL, atol=0))


def distance(one: Affine, other: Affine, shape: Sequence[int]) -> float:
    """Return the largest distance in mm between corners of a volume [I, J, K] under one affine and the other."""
    corners = np.array(
        [[i, j, k, 1.0] for i in (0, shape[0] - 1) for j in (0, shape[1] - 1) for k in (0, shape[2] - 1)]
    )
    return float(np.sqrt((((one - other) @ corners.T)[:3] ** 2).sum(0)).max())


def _resample_axis(
    voxels: Voxels, affine: Affine, axis: int, spacing: float, interpolation: Interpolation
) -> tuple[Voxels, Affine]:
    """Resample one axis to another spacing: as many voxels as its length holds, the centre stays the centre."""
    stored, count = nifti.spacing(affine)[axis], voxels.shape[axis + 1]
    if abs(stored - spacing) <= EQUAL * spacing:
        return voxels, affine
    factor, new = spacing / stored, max(1, round(count * stored / spacing))
    first = (count - 1) / 2 - factor * (new - 1) / 2
    positions = np.clip(first + factor * np.arange(new), 0, count - 1)
    return _interpolate(voxels, axis + 1, positions, interpolation), affine @ _step(axis, factor, first)


def _interpolate(voxels: Voxels, axis: int, positions: NDArray[np.float64], interpolation: Interpolation) -> Voxels:
    """Return values at positions between voxels along one axis."""
    if interpolation == "nearest":
        return np.take(voxels, np.floor(positions + 0.5).astype(int).clip(max=voxels.shape[axis] - 1), axis)
    low = np.floor(positions).astype(int)
    high = np.minimum(low + 1, voxels.shape[axis] - 1)
    weight = (positions - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(voxels.ndim)])
    return np.take(voxels, low, axis) * (1 - weight) + np.take(voxels, high, axis) * weight


def _crop_or_pad(voxels: Voxels, affine: Affine, axis: int, wanted: int) -> tuple[Voxels, Affine]:
    """Crop or pad one axis to `wanted` voxels on both sides equally, an odd one at the end."""
    count = voxels.shape[axis + 1]
    first = (count - wanted) // 2 if count >= wanted else -((wanted - count) // 2)
    inside = voxels[(slice(None),) * (axis + 1) + (slice(max(0, first), max(0, first) + min(wanted, count)),)]
    around = [(0, 0)] * voxels.ndim
    around[axis + 1] = (max(0, -first), wanted - inside.shape[axis + 1] - max(0, -first))
    return np.pad(inside, around), affine @ _step(axis, 1, first)


def _step(axis: int, factor: float, first: float) -> Affine:
    """Return the map from new indices to old ones along one axis: first + factor * index."""
    step = np.eye(4)
    step[axis, axis], step[axis, 3] = factor, first
    return step
