"""Resample volumes of a folder (NIfTI-1) to the grid of a segmenter, and its masks back to the stored voxels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.data import grids, intensities, nifti
from pipeline.data.decoding import InvalidData, ensure_inside
from pipeline.data.grids import Affine, Grid, Reorientation
from pipeline.data.intensities import Intensities
from pipeline.data.sample import DatasetSpec

READER = "volumes"
CHANNEL = re.compile(r"_\d{4}$")  # suffix of nnU-Net's files of one channel


@dataclass(frozen=True)
class GridVolume:
    """A volume on the segmenter's grid, and how it is stored in its file."""

    voxels: NDArray[np.float32]  # [C, X, Y, Z] in [0, 1]
    affine: Affine  # of the grid
    reorientation: Reorientation
    stored: Affine  # of the file
    shape: tuple[int, ...]  # [I, J, K] of the file


def intensity_settings(reading: Mapping[str, Any], folder: Path) -> Intensities:
    """Return how a kept segmenter expects intensities to be scaled.

    Raises UserError where its training data came from another reader.
    """
    values = {key: value for key, value in reading.items() if key != "reader"}
    if reading.get("reader") != READER:
        reader = reading.get("reader") or "an older version, which did not record it"
        raise UserError(
            f"{folder} was trained on volumes of the reader {reader}; predict supports only those of {READER}"
        )
    return Intensities.model_validate(values)


def volume_files(folder: Path, target: Path) -> dict[Path, tuple[Path, ...]]:
    """Return the files of each volume below a folder, by the name of its mask, without those below `target`.

    NAME_0000.nii.gz, NAME_0001.nii.gz ... are the channels of one volume. Raises UserError.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder of volumes")
    volumes: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        is_volume = path.name.endswith(nifti.TYPES) and not path.name.startswith(".") and path.is_file()
        if is_volume and target.resolve() not in path.resolve().parents:
            name = path.relative_to(folder).with_name(CHANNEL.sub("", nifti.stem(path)) + ".nii.gz")
            volumes.setdefault(name, []).append(path)
    if not volumes:
        raise UserError(f"{folder} holds no volume; the known types are {', '.join(nifti.TYPES)}")
    for name, paths in volumes.items():
        if len({nifti.stem(path) for path in paths}) < len(paths) or (
            len(paths) > 1 and not all(CHANNEL.search(nifti.stem(path)) for path in paths)
        ):
            names = ", ".join(path.name for path in paths)
            raise UserError(
                f"{folder}: the mask {name} would be that of several volumes ({names}); rename or move some"
            )
    return {name: tuple(paths) for name, paths in volumes.items()}


def load_volume(paths: Sequence[Path], root: Path, scaling: Intensities, spec: DatasetSpec) -> GridVolume:
    """Read a volume and resample it to the grid. Raises InvalidData."""
    assert spec.shape is not None and spec.spacing is not None
    for path in paths:
        ensure_inside(path, root)
    voxels, stored = intensities.read(paths, scaling)
    if len(voxels) != spec.channels:
        raise InvalidData(
            f"has {len(voxels)} channels, but the segmenter was trained on {spec.channels}; they must be equal"
        )
    reorientation, shape = Reorientation.from_affine(stored), voxels.shape[1:]
    upright = reorientation.apply(voxels), reorientation.affine(stored, shape)
    on_grid, affine = Grid(spec.shape, spec.spacing).fit(*upright, "linear")
    return GridVolume(np.asarray(on_grid, np.float32), affine, reorientation, stored, shape)


def predict_probabilities(segmenter: Segmenter, volume: GridVolume) -> NDArray[np.float32]:
    """Return probabilities [K, X, Y, Z] on the grid."""
    batch = torch.from_numpy(np.ascontiguousarray(volume.voxels))[None]
    return segmenter.predict(batch).mean(1)[0].float().cpu().numpy()


def stored_labels(probabilities: NDArray[np.float32], volume: GridVolume) -> NDArray[np.uint8]:
    """Return labels [I, J, K] on the voxels of the file; background outside of the grid.

    Probabilities are interpolated linearly between the voxels of the grid.
    """
    affine = volume.reorientation.affine(volume.stored, volume.shape)
    shape = tuple(volume.shape[axis] for axis in volume.reorientation.axes)
    best, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for label, probability in enumerate(
        probabilities
    ):  # one by one: all classes at the file's size may not fit into memory
        value = grids.resample_onto(probability[None], volume.affine, affine, shape)[0]
        is_best = value > best
        best[is_best], labels[is_best] = value[is_best], label
    return np.ascontiguousarray(volume.reorientation.invert(labels[None])[0])


def middle_slices(volume: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the middle slices across the three axes of [..., X, Y, Z], front or top upwards."""
    return [np.swapaxes(np.take(volume, volume.shape[axis] // 2, axis), -1, -2)[..., ::-1, :] for axis in (-1, -2, -3)]
