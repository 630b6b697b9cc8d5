"""A pair that passed every check of its own, at the study's size, and what comparing it with the others needs."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError
from pipeline.data import hashing, labels
from pipeline.data.decoding import Deferred, Fault, Faulty, Item, Reference, decode, grey, resize_image, resize_labels
from pipeline.data.grids import Grid
from pipeline.data.image_set import png
from pipeline.data.sample import Sample
from pipeline.data.stored import majority
from pipeline.stages.prepare.params import Data


@dataclass(frozen=True)
class Candidate:
    """A checked pair."""

    sample: Sample  # image [C, size, size] or [C, *data.shape], masks [R, ...] with labels 0..K-1
    digest: str  # content hash of the image at its own size
    look: NDArray[np.bool_]  # perceptual hash
    shape: tuple[int, ...]  # height and width of the image's own size, of a volume its three extents

    @property
    def where(self) -> str:
        """What names the pair in a message to the user."""
        return self.sample.origin or self.sample.id

    @property
    def split_group(self) -> str:
        """What a drawn split must not divide: a group of the data set, else all copies of one image."""
        return f"group {self.sample.group}" if self.sample.group else self.digest


@dataclass(frozen=True)
class Again:
    """The voxels of a volume on the study's grid, read from its file whenever they are asked for."""

    item: Sample | Reference | Deferred
    grid: Grid
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Axes, that of the channels included."""
        return len(self.shape)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.float32]:
        sample = _decoded(self.item)
        if not isinstance(sample, Sample) or sample.affine is None:
            raise UserError(f"{self.item.origin} has changed since it was checked; run prepare again")
        return np.asarray(self.grid.put(np.asarray(sample.image), sample.affine, "linear")[0], np.float32)


def examine(item: Item, data: Data) -> Candidate | list[Fault]:
    """Decodes and checks one pair; everything that is wrong with it where it cannot be used."""
    if isinstance(item, Fault):
        return [item]
    decoded = _decoded(item)
    if isinstance(decoded, list):
        return decoded
    volume = decoded.affine is not None
    if volume != (data.shape is not None):
        cure = "give data.shape instead of data.size" if volume else "give data.size instead of data.shape"
        raise UserError(f"data.reader {data.reader} reads {'volumes' if volume else 'pictures'}; {cure}")
    try:
        return _volume(item, decoded, data) if volume else _picture(decoded, data)
    except Faulty as fault:
        return [Fault(decoded.origin or decoded.id, str(fault))]


def _decoded(item: Sample | Reference | Deferred) -> Sample | list[Fault]:
    return item if isinstance(item, Sample) else decode(item)


def _picture(sample: Sample, data: Data) -> Candidate:
    image = _channels(np.asarray(sample.image, np.uint8), data)
    _same_size(image, sample.masks[0], sample.notes)
    maps, notes = _label_maps(sample, data.num_classes)
    small = [resize_labels(own, data.size) for own in maps]
    if any(own.any() for own in maps) and not any(own.any() for own in small):
        notes.append(f"mask: all foreground lost at {data.size} pixels")
    native = png(majority(np.stack(maps))) if data.native_masks else b""
    about = {"masks": np.stack(small), "notes": (*sample.notes, *notes), "native": native}
    kept = replace(sample, image=resize_image(image, data.size), **about)
    return Candidate(kept, hashing.content(image), hashing.look(image), (image.shape[1], image.shape[2]))


def _channels(image: NDArray[np.uint8], data: Data) -> NDArray[np.uint8]:
    """The image with the study's channels; grey where that is meant."""
    if data.planes == 1 and len(image) == 3:
        return grey(image)
    _as_many(len(image), data)
    return image


def _as_many(channels: int, data: Data) -> None:
    if channels != data.planes:
        raise Faulty(f"has {channels} channels, data.channels is {data.planes}; they must agree")


def _label_maps(sample: Sample, num_classes: int) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """The label map of every rater, and what had to be mended, each remark once."""
    found, notes = [], []
    for rater, mask in enumerate(sample.masks):
        try:
            own, remarks = labels.from_mask(mask, num_classes)
        except Faulty as fault:
            raise Faulty(str(fault) if len(sample.masks) == 1 else f"rater {rater}: {fault}") from None
        found.append(own)
        notes += remarks
    return found, list(dict.fromkeys(notes))


def _same_size(image: NDArray[np.uint8], mask: NDArray[np.uint8], notes: tuple[str, ...]) -> None:
    if image.shape[1:] != mask.shape:
        sizes = [f"{width} x {height}" for height, width in (image.shape[1:], mask.shape)]
        turned = "".join(f" ({note})" for note in notes if "EXIF" in note)
        raise Faulty(f"the image is {sizes[0]} pixels, its mask {sizes[1]}{turned}; they must agree")


def _volume(item: Sample | Reference | Deferred, sample: Sample, data: Data) -> Candidate:
    """Onto the common grid; the image is not kept in memory but read again when it is written."""
    assert data.shape is not None and sample.affine is not None
    image = np.asarray(sample.image, np.float32)
    _as_many(len(image), data)
    grid = Grid(data.shape, data.spacing)
    maps, affine = grid.put(sample.masks, sample.affine, "nearest")
    notes = _lost(sample.masks, maps, grid, sample.affine)
    again = Again(item, grid, (len(image), *data.shape))
    kept = replace(sample, image=again, masks=maps.astype(np.uint8), affine=affine, notes=(*sample.notes, *notes))
    return Candidate(kept, hashing.content(image), hashing.look(_middle(image)), image.shape[1:])


def _lost(masks: NDArray[np.uint8], put: NDArray[np.uint8], grid: Grid, affine: NDArray[np.float64]) -> list[str]:
    """What the grid cuts away of the foreground."""
    if not masks.any():
        return []
    if not put.any():
        return [f"mask: all foreground lost on the grid of {list(grid.shape)} voxels"]
    whole = grid.spaced(masks, affine, "nearest")[0]
    return ["mask: some foreground lies outside data.shape"] if (whole > 0).sum() > (put > 0).sum() else []


def _middle(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The middle slice across the last axis [C, X, Y] as grey levels, for the perceptual hash."""
    return np.round(255 * np.clip(image[..., image.shape[-1] // 2], 0, 1)).astype(np.uint8)
