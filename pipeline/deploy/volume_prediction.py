"""Volumes of a folder (NIfTI-1) on the grid that a segmenter was trained on, and masks back on their own voxels."""

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
CHANNEL = re.compile(r"_\d{4}$")  # how nnU-Net's files of one channel end


@dataclass(frozen=True)
class Placed:
    """A volume on the segmenter's grid, and where it came from."""

    voxels: NDArray[np.float32]  # [C, X, Y, Z] in [0, 1]
    affine: Affine  # of the grid
    turn: Reorientation
    stored: Affine  # of the file
    shape: tuple[int, ...]  # [I, J, K] of the file


def settings(reading: Mapping[str, Any], folder: Path) -> Intensities:
    """How a kept segmenter wants intensities read. Raises UserError where another reader read its data."""
    own = {key: value for key, value in reading.items() if key != "reader"}
    if reading.get("reader") != READER:
        found = reading.get("reader") or "an older version, which did not record it"
        raise UserError(f"{folder} was trained on volumes of the reader {found}; predict knows those of {READER}")
    return Intensities.model_validate(own)


def files_of(folder: Path, target: Path) -> dict[Path, tuple[Path, ...]]:
    """The files of each volume below a folder, by the name of its mask; those below `target` do not count.

    NAME_0000.nii.gz, NAME_0001.nii.gz ... are the channels of one volume. Raises UserError.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of volumes")
    found: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        own = path.name.endswith(nifti.TYPES) and not path.name.startswith(".") and path.is_file()
        if own and target.resolve() not in path.resolve().parents:
            name = path.relative_to(folder).with_name(CHANNEL.sub("", nifti.stem(path)) + ".nii.gz")
            found.setdefault(name, []).append(path)
    if not found:
        raise UserError(f"{folder} holds no volume; known are {', '.join(nifti.TYPES)}")
    for name, paths in found.items():
        if len({nifti.stem(path) for path in paths}) < len(paths) or (
            len(paths) > 1 and not all(CHANNEL.search(nifti.stem(path)) for path in paths)
        ):
            told = ", ".join(path.name for path in paths)
            raise UserError(f"{folder}: the mask {name} would be that of several volumes ({told}); rename or move some")
    return {name: tuple(paths) for name, paths in found.items()}


def placed(paths: Sequence[Path], root: Path, chosen: Intensities, spec: DatasetSpec) -> Placed:
    """Reads a volume and brings it to the grid. Raises InvalidData."""
    assert spec.shape is not None and spec.spacing is not None
    for path in paths:
        ensure_inside(path, root)
    voxels, stored = intensities.read(paths, chosen)
    if len(voxels) != spec.channels:
        raise InvalidData(f"has {len(voxels)} channels, the segmenter was trained on {spec.channels}; they must agree")
    turn, shape = Reorientation.from_affine(stored), voxels.shape[1:]
    on_grid, affine = Grid(spec.shape, spec.spacing).fit(turn.apply(voxels), turn.affine(stored, shape), "linear")
    return Placed(np.asarray(on_grid, np.float32), affine, turn, stored, shape)


def chances(segmenter: Segmenter, volume: Placed) -> NDArray[np.float32]:
    """Probabilities [K, X, Y, Z] on the grid."""
    seen = torch.from_numpy(np.ascontiguousarray(volume.voxels))[None]
    return segmenter.predict(seen).mean(1)[0].float().cpu().numpy()


def labels_of(chance: NDArray[np.float32], volume: Placed) -> NDArray[np.uint8]:
    """Labels [I, J, K] on the file's own voxels, probabilities linear between those of the grid; outside background."""
    wanted = volume.turn.affine(volume.stored, volume.shape)
    shape = tuple(volume.shape[axis] for axis in volume.turn.axes)
    best, labels = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    for label, own in enumerate(chance):  # one by one: all classes at the file's size may not fit into memory
        value = grids.resample_onto(own[None], volume.affine, wanted, shape)[0]
        wins = value > best
        best[wins], labels[wins] = value[wins], label
    return np.ascontiguousarray(volume.turn.invert(labels[None])[0])


def slices(volume: NDArray[Any]) -> list[NDArray[Any]]:
    """The middle slices across the three axes of [..., X, Y, Z], front or top upwards."""
    return [np.swapaxes(np.take(volume, volume.shape[axis] // 2, axis), -1, -2)[..., ::-1, :] for axis in (-1, -2, -3)]
