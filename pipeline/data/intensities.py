"""The intensities of a volume from its NIfTI files, one per channel or one for all, scaled to [0, 1]."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, model_validator

from pipeline.core.section import Section
from pipeline.data import nifti
from pipeline.data.decoding import InvalidData
from pipeline.data.grids import Affine, distance


class Intensities(Section):
    """How the intensities of volumes are read."""

    window: tuple[float, float] | None = None
    """The two intensities that become 0 and 1; `null` for percentiles of each channel of each volume."""
    percentiles: tuple[float, float] = (0.5, 99.5)
    """The two percentiles that become 0 and 1, where there is no `window`."""
    contrasts: tuple[NonNegativeInt, ...] | None = Field(default=None, min_length=1)
    """Channels of the files to use, from 0; `null` for all."""

    @model_validator(mode="after")
    def ends_are_in_order(self) -> Self:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles must lie between 0 and 100, with the lower one first; found {low}, {high}")
        if self.window and self.window[0] >= self.window[1]:
            raise ValueError(f"window must have its lower end first; found {list(self.window)}")
        return self


def read(images: Sequence[Path], settings: Intensities) -> tuple[NDArray[np.float32], Affine]:
    """Return one volume [C, I, J, K] in [0, 1], axes as stored, and its affine. Raises InvalidData."""
    affine, voxels = nifti.read_affine(images[0]), _channels(images, settings)
    return np.stack([_rescale(channel, settings) for channel in voxels]), affine


def _channels(images: Sequence[Path], settings: Intensities) -> NDArray[np.generic]:
    """Return intensities [C, I, J, K] as stored; several files must cover the same voxels."""
    if len(images) == 1:
        voxels = nifti.read(images[0])
        voxels = voxels[None] if voxels.ndim == 3 else np.moveaxis(voxels, -1, 0)
    else:
        voxels = np.stack(list(_read_files(images)))
    if settings.contrasts is None:
        return voxels
    if max(settings.contrasts) >= len(voxels):
        raise InvalidData(f"has {len(voxels)} channels; data.contrasts is {list(settings.contrasts)}, counted from 0")
    return voxels[list(settings.contrasts)]


def _read_files(images: Sequence[Path]) -> Iterator[NDArray[np.generic]]:
    first, affine = nifti.read(images[0]), nifti.read_affine(images[0])
    for path in images:
        voxels = nifti.read(path)
        if voxels.ndim != 3:
            raise InvalidData(f"{path.name} has {voxels.ndim} axes; a file of one channel has three")
        check_alignment(path, voxels.shape, nifti.read_affine(path), first.shape, affine)
        yield voxels


def check_alignment(
    path: Path, shape: tuple[int, ...], affine: Affine, image_shape: tuple[int, ...], image_affine: Affine
) -> None:
    """Raise InvalidData if a file does not cover the same voxels as the image."""
    if shape != image_shape:
        raise InvalidData(f"has {list(image_shape)} voxels, but {path.name} has {list(shape)}; they must be equal")
    offset = distance(affine, image_affine, shape)
    if offset > min(nifti.spacing(image_affine)):
        raise InvalidData(f"and {path.name} lie up to {offset:.4g} mm apart by their headers; they must agree")


def _rescale(channel: NDArray[np.generic], settings: Intensities) -> NDArray[np.float32]:
    """Clip intensities to the window and scale it to [0, 1]."""
    values = np.nan_to_num(channel.astype(np.float32))
    low, high = settings.window or np.percentile(values, settings.percentiles)
    return np.clip((values - np.float32(low)) / np.float32(max(float(high - low), 1e-6)), 0, 1)
