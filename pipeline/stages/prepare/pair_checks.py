"""Checks of single pairs: each one is decoded, checked by itself and brought to the study's size."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.core.contracts import IGNORED
from pipeline.core.errors import UserError
from pipeline.data import hashing, labels
from pipeline.data.decoding import (
    Fault,
    FilePair,
    InvalidData,
    Item,
    LazySample,
    decode,
    grey,
    resize_image,
    resize_labels,
)
from pipeline.data.grids import Grid
from pipeline.data.image_files import majority_vote
from pipeline.data.image_set import png
from pipeline.data.picture_rules import NO_RULES, PictureRules
from pipeline.data.sample import Sample
from pipeline.stages.prepare.params import Data


@dataclass(frozen=True)
class Candidate:
    """A pair that passed the checks of single pairs, with what comparing it with the others needs."""

    sample: Sample  # image [C, size, size] or [C, *data.shape], masks [R, ...] with labels 0..K-1
    digest: str  # content hash of the image at its own size
    perceptual_hash: NDArray[np.bool_]
    shape: tuple[int, ...]  # height and width of the image's own size, of a volume its three extents
    ignored: int = 0  # pixels of its mask, at its own size, whose label is not known (data.ignore_label)

    @property
    def location(self) -> str:
        """The name of the pair in a message to the user."""
        return self.sample.origin or self.sample.id

    @property
    def split_group(self) -> str:
        """The unit that a drawn split must not divide: a group of the data set, else all copies of one image."""
        return f"group {self.sample.group}" if self.sample.group else self.digest


@dataclass(frozen=True)
class LazyVolume:
    """The voxels of a volume on the study's grid, read from its file whenever they are needed."""

    item: Sample | FilePair | LazySample
    grid: Grid
    shape: tuple[int, ...]

    @property
    def ndim(self) -> int:
        """Number of axes, the channels included."""
        return len(self.shape)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> NDArray[np.float32]:
        sample = _decoded(self.item)
        if not isinstance(sample, Sample) or sample.affine is None:
            raise UserError(f"{self.item.origin} has changed since it was checked; run prepare again")
        return np.asarray(self.grid.fit(np.asarray(sample.image), sample.affine, "linear")[0], np.float32)


def check_pair(item: Item, data: Data) -> Candidate | list[Fault]:
    """Decode and check one pair; return all its faults if it cannot be used."""
    if isinstance(item, Fault):
        return [item]
    rules = PictureRules(data.picture_window, data.palette or ())
    if rules and not isinstance(item, FilePair):
        raise UserError(
            f"data.picture_window and data.palette are for pairs of picture files, and data.reader {data.reader} reads"
            " other files"
        )
    decoded = _decoded(item, rules)
    if isinstance(decoded, list):
        return decoded
    volume = decoded.affine is not None
    if volume != (data.shape is not None):
        cure = "give data.shape instead of data.size" if volume else "give data.size instead of data.shape"
        raise UserError(f"data.reader {data.reader} reads {'volumes' if volume else 'pictures'}; {cure}")
    try:
        return _check_volume(item, decoded, data) if volume else _check_picture(decoded, data)
    except InvalidData as fault:
        return [Fault(decoded.origin or decoded.id, str(fault))]


def _decoded(item: Sample | FilePair | LazySample, rules: PictureRules = NO_RULES) -> Sample | list[Fault]:
    return item if isinstance(item, Sample) else decode(item, rules)


def _check_picture(sample: Sample, data: Data) -> Candidate:
    image = with_channels(np.asarray(sample.image, np.uint8), data)
    _check_sizes(image, sample.masks[0], sample.notes)
    maps, notes = _label_maps(sample, data)
    resized = [resize_labels(label_map, data.size) for label_map in maps]
    seen, left = (any(labels.foreground(label_map).any() for label_map in found) for found in (maps, resized))
    if seen and not left:
        notes.append(f"mask: all foreground lost at {data.size} pixels")
    native = png(majority_vote(np.stack(maps))) if data.native_masks else b""
    masks, image_resized = np.stack(resized), resize_image(image, data.size)
    checked = replace(sample, image=image_resized, masks=masks, notes=(*sample.notes, *notes), native=native)
    if (masks == IGNORED).all():
        raise InvalidData(f"all pixels of its mask are ignored at {data.size} pixels; leave the pair out")
    shape, ignored = (image.shape[1], image.shape[2]), sum(int((one == IGNORED).sum()) for one in maps)
    return Candidate(checked, hashing.content_hash(image), hashing.perceptual_hash(image), shape, ignored)


def with_channels(image: NDArray[np.uint8], data: Data) -> NDArray[np.uint8]:
    """Return the image with the study's channels, converted to grey if data.channels is 1. Raises InvalidData."""
    if data.planes == 1 and len(image) == 3:
        return grey(image)
    _check_channels(len(image), data)
    return image


def _check_channels(channels: int, data: Data) -> None:
    if channels != data.planes:
        raise InvalidData(f"has {channels} channels, but data.channels is {data.planes}; they must be equal")


def _label_maps(sample: Sample, data: Data) -> tuple[list[NDArray[np.uint8]], list[str]]:
    """Return the label map of every rater, and notes on what had to be corrected, each note once."""
    maps, notes = [], []
    if data.ignore_label is not None and len(sample.masks) > 1:
        raise InvalidData(f"has the masks of {len(sample.masks)} raters; data.ignore_label takes one mask per image")
    for rater, mask in enumerate(sample.masks):
        try:
            label_map, remarks = labels.label_map(mask, data.num_classes, data.ignore_label)
        except InvalidData as fault:
            raise InvalidData(str(fault) if len(sample.masks) == 1 else f"rater {rater}: {fault}") from None
        maps.append(label_map)
        notes += remarks
    return maps, list(dict.fromkeys(notes))


def _check_sizes(image: NDArray[np.uint8], mask: NDArray[np.uint8], notes: tuple[str, ...]) -> None:
    if image.shape[1:] != mask.shape:
        sizes = [f"{width} x {height}" for height, width in (image.shape[1:], mask.shape)]
        rotated = "".join(f" ({note})" for note in notes if "EXIF" in note)
        raise InvalidData(f"the image is {sizes[0]} pixels, its mask {sizes[1]}{rotated}; they must be equal")


def _check_volume(item: Sample | FilePair | LazySample, sample: Sample, data: Data) -> Candidate:
    """Fit a volume to the common grid; the image is not kept in memory but read again when it is written."""
    assert data.shape is not None and sample.affine is not None
    image = np.asarray(sample.image, np.float32)
    _check_channels(len(image), data)
    grid = Grid(data.shape, data.spacing)
    masks, affine = grid.fit(sample.masks, sample.affine, "nearest")
    notes = _lost_foreground(sample.masks, masks, grid, sample.affine)
    lazy = LazyVolume(item, grid, (len(image), *data.shape))
    checked = replace(sample, image=lazy, masks=masks.astype(np.uint8), affine=affine, notes=(*sample.notes, *notes))
    return Candidate(
        checked, hashing.content_hash(image), hashing.perceptual_hash(_middle_slice(image)), image.shape[1:]
    )


def _lost_foreground(
    masks: NDArray[np.uint8], fitted: NDArray[np.uint8], grid: Grid, affine: NDArray[np.float64]
) -> list[str]:
    """Return notes on the foreground that the grid cuts away."""
    if not masks.any():
        return []
    if not fitted.any():
        return [f"mask: all foreground lost on the grid of {list(grid.shape)} voxels"]
    resampled = grid.resample(masks, affine, "nearest")[0]
    return ["mask: some foreground lies outside data.shape"] if (resampled > 0).sum() > (fitted > 0).sum() else []


def _middle_slice(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the middle slice across the last axis [C, X, Y] as grey levels, for the perceptual hash."""
    return np.round(255 * np.clip(image[..., image.shape[-1] // 2], 0, 1)).astype(np.uint8)
