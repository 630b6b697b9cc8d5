"""Slices of volumes in the layout of the Medical Segmentation Decathlon (Antonelli et al. 2022) or of nnU-Net.

imagesTr/NAME.nii.gz (nnU-Net: NAME_0000.nii.gz) with labelsTr/NAME.nii.gz; labelsTs, if it exists, makes the split
test. Slices are taken from the voxels as stored; all slices of a volume stay in one split.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pipeline.core.section import Section
from pipeline.data import nifti
from pipeline.data.decoding import Fault, InvalidData, Item, Pixels, display_path, ensure_inside
from pipeline.data.sample import Sample
from pipeline.methods.readers import _folders
from pipeline.stages.prepare.params import Data

SOURCE = "msd"
TAILS = (0.5, 99.5)  # percentiles of a volume that become black and white without a window


class Params(Section):
    """The folder of the volumes, and which slices are taken."""

    root: Path
    """Folder of the data set."""
    slices: int = Field(default=8, gt=0)
    """Largest number of slices of a volume, evenly spaced over those that show foreground."""
    axis: Literal[0, 1, 2] = 2
    """Axis across which slices are cut; 2 is axial in files of the usual orientations."""
    channel: int = Field(default=0, ge=0)
    """Channel of volumes that have several (FLAIR, T1 ...)."""
    window: tuple[float, float] | None = None
    """The two intensities that become black and white; `null` for the percentiles 0.5 and 99.5 of each volume."""


def read(data: Data, params: Params) -> Iterator[Item]:
    """Yield grey slices with their label maps, and faults of names and volumes."""
    root = _folders.existing(params.root, "data.root")
    yield from _part(root, "Tr", None, params)
    if (root / "labelsTs").is_dir():
        yield from _part(root, "Ts", "test", params)


def _part(root: Path, part: str, split: str | None, params: Params) -> Iterator[Item]:
    images, labels = (_volumes(root / f"{kind}{part}") for kind in ("images", "labels"))
    used = {name: _image_of(name, images, params.channel) for name in labels}
    for name, label in labels.items():
        image = used[name]
        if image is None:
            yield Fault(display_path(label, root), "has no image; add one of the same name or remove the label")
            continue
        try:
            yield from _slices(root, image, label, split, params)
        except InvalidData as fault:
            yield Fault(display_path(image, root), str(fault))
    for name in images:
        if name not in labels and name.rpartition("_")[0] not in labels:
            yield Fault(display_path(images[name], root), "has no label; add one of the same name or remove the image")


def _volumes(folder: Path) -> dict[str, Path]:
    paths = sorted(_folders.existing(folder, "data.root").iterdir())
    return {nifti.stem(p): p for p in paths if p.name.endswith(nifti.TYPES) and not p.name.startswith(".")}


def _image_of(name: str, images: dict[str, Path], channel: int) -> Path | None:
    return images.get(name) or images.get(f"{name}_{channel:04d}")


def _slices(root: Path, image: Path, label: Path, split: str | None, params: Params) -> Iterator[Sample]:
    stored, in_one_file = nifti.read(ensure_inside(image, root)), nifti.stem(image) == nifti.stem(label)
    voxels = _to_grey(_channel(stored, params.channel, in_one_file), params.window)
    labels = _label_map(ensure_inside(label, root))
    if voxels.shape != labels.shape:
        raise InvalidData(
            f"has {list(voxels.shape)} voxels, but its label has {list(labels.shape)}; they must be equal"
        )
    name = nifti.stem(label)
    for k in _slice_positions(labels, params):
        grey, mask = (np.rot90(np.take(volume, k, params.axis)) for volume in (voxels, labels))
        picture = np.broadcast_to(grey, (3, *grey.shape))  # three views of one channel
        origin = f"{display_path(image, root)}, slice {k}"
        yield Sample(f"{_folders.safe_id(name)}_s{k:03d}", picture, mask[None], "", split, SOURCE, name, origin)


def _channel(voxels: NDArray[np.generic], channel: int, in_one_file: bool) -> NDArray[np.generic]:
    """Return one channel; `in_one_file`: channels are in one file, not in several."""
    if voxels.ndim == 3:
        if channel and in_one_file:
            raise InvalidData(f"has one channel; data.channel is {channel}")
        return voxels
    if channel >= voxels.shape[3]:
        raise InvalidData(f"has {voxels.shape[3]} channels; data.channel is {channel}, counted from 0")
    return voxels[..., channel]


def _label_map(path: Path) -> Pixels:
    voxels = nifti.read(path)
    labels = voxels.astype(np.uint8)
    if voxels.ndim != 3 or (labels != voxels).any():
        raise InvalidData(f"has a label {path.name} that is not a map of whole numbers 0 to 255 on three axes")
    return labels


def _to_grey(voxels: NDArray[np.generic], window: tuple[float, float] | None) -> Pixels:
    """Scale intensities within the window to 0..255."""
    values = np.nan_to_num(voxels.astype(np.float32))
    low, high = window or np.percentile(values, TAILS)
    scaled = (values - low) / max(float(high - low), 1e-6)
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)


def _slice_positions(labels: Pixels, params: Params) -> list[int]:
    """Return at most `slices` evenly spaced slices, of those with foreground (of all, if there is none)."""
    others = tuple(axis for axis in range(3) if axis != params.axis)
    candidates = np.flatnonzero(labels.any(axis=others))
    if not len(candidates):
        candidates = np.arange(labels.shape[params.axis])
    spaced = np.linspace(0, len(candidates) - 1, min(params.slices, len(candidates)) + 2)[1:-1]
    return candidates[np.unique(np.round(spaced).astype(int))].tolist()
