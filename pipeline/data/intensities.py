"""The intensities of a volume from its NIfTI files, one per channel or one for all, brought to 0 ... 1."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, model_validator

from pipeline.core.section import Section
from pipeline.data import nifti
from pipeline.data.decoding import Faulty
from pipeline.data.grids import Affine, distance


class Intensities(Section):
    """How intensities are read."""

    window: tuple[float, float] | None = None  # intensities that become 0 and 1; None: percentiles of each channel
    percentiles: tuple[float, float] = (0.5, 99.5)
    contrasts: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1)  # channels to use; None: all

    @model_validator(mode="after")
    def ends_are_in_order(self) -> Self:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles run from 0 to 100, the lower first; found {low}, {high}")
        if self.window and self.window[0] >= self.window[1]:
            raise ValueError(f"window has the lower end first; found {list(self.window)}")
        return self


def read(images: Sequence[Path], chosen: Intensities) -> tuple[NDArray[np.float32], Affine]:
    """Of the files of one volume [C, I, J, K] in [0, 1], axes as stored, and the affine. Raises Faulty."""
    affine, voxels = nifti.read_affine(images[0]), _channels(images, chosen)
    return np.stack([_scaled(channel, chosen) for channel in voxels]), affine


def _channels(images: Sequence[Path], chosen: Intensities) -> NDArray[np.generic]:
    """Intensities [C, I, J, K] as stored; those of several files must lie in one place."""
    if len(images) == 1:
        voxels = nifti.read(images[0])
        voxels = voxels[None] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0)
    else:
        voxels = np.stack(list(_of_files(images)))
    if chosen.contrasts is None:
        return voxels
    if max(chosen.contrasts) >= len(voxels):
        raise Faulty(f"has {len(voxels)} channels; data.contrasts {list(chosen.contrasts)} count from 0")
    return voxels[list(chosen.contrasts)]


def _of_files(images: Sequence[Path]) -> Iterator[NDArray[np.generic]]:
    first, place = nifti.read(images[0]), nifti.read_affine(images[0])
    for path in images:
        voxels = nifti.read(path)
        if voxels.ndim != 3:
            raise Faulty(f"{path.name} has {voxels.ndim} axes; a file of one channel has three")
        agree(path, voxels.shape, nifti.read_affine(path), first.shape, place)
        yield voxels


def agree(path: Path, shape: tuple[int, ...], affine: Affine, wanted: tuple[int, ...], place: Affine) -> None:
    """Raises Faulty where a file is no map of the same voxels as the image."""
    if shape != wanted:
        raise Faulty(f"has {list(wanted)} voxels, {path.name} {list(shape)}; they must agree")
    apart = distance(affine, place, shape)
    if apart > min(nifti.spacing(place)):
        raise Faulty(f"and {path.name} lie up to {apart:.4g} mm apart by their headers; they must agree")


def _scaled(channel: NDArray[np.generic], chosen: Intensities) -> NDArray[np.float32]:
    """Intensities cut off at the window's ends, which become 0 and 1."""
    values = np.nan_to_num(channel.astype(np.float32))
    low, high = chosen.window or np.percentile(values, chosen.percentiles)
    return np.clip((values - np.float32(low)) / np.float32(max(float(high - low), 1e-6)), 0, 1)
