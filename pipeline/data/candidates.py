"""A pair that passed every check of its own, at the study's size, and what comparing it with the others needs."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pipeline.data import hashing, labels
from pipeline.data.decoding import Fault, Faulty, Item, Reference, decode, resize
from pipeline.data.image_set import png
from pipeline.data.sample import Sample
from pipeline.params import Data


@dataclass(frozen=True)
class Candidate:
    """A checked pair."""

    sample: Sample  # image [3, size, size], masks [1, size, size] with labels 0..K-1
    digest: str  # content hash of the image at its own size
    look: NDArray[np.bool_]  # perceptual hash
    shape: tuple[int, int]  # height and width of the image's own size

    @property
    def where(self) -> str:
        """What names the pair in a message to the user."""
        return self.sample.origin or self.sample.id

    @property
    def split_group(self) -> str:
        """What a drawn split must not divide: a group of the data set, else all copies of one image."""
        return f"group {self.sample.group}" if self.sample.group else self.digest


def examine(item: Item, data: Data) -> Candidate | list[Fault]:
    """Decodes and checks one pair; everything that is wrong with it where it cannot be used."""
    if isinstance(item, Fault):
        return [item]
    decoded = decode(item) if isinstance(item, Reference) else item
    if isinstance(decoded, list):
        return decoded
    try:
        return _accept(decoded, data)
    except Faulty as fault:
        return [Fault(decoded.origin or decoded.id, str(fault))]


def _accept(sample: Sample, data: Data) -> Candidate:
    image, mask = np.asarray(sample.image, np.uint8), sample.masks[0]
    _same_size(image, mask, sample.notes)
    label_map, notes = labels.from_mask(mask, data.num_classes)
    small_image, small_labels = resize(image, label_map, data.size)
    if label_map.any() and not small_labels.any():
        notes.append(f"mask: all foreground lost at {data.size} pixels")
    native = png(label_map) if data.native_masks else b""
    kept = replace(sample, image=small_image, masks=small_labels[None], notes=(*sample.notes, *notes), native=native)
    return Candidate(kept, hashing.content(image), hashing.look(image), (image.shape[1], image.shape[2]))


def _same_size(image: NDArray[np.uint8], mask: NDArray[np.uint8], notes: tuple[str, ...]) -> None:
    if image.shape[1:] != mask.shape:
        sizes = [f"{width} x {height}" for height, width in (image.shape[1:], mask.shape)]
        turned = "".join(f" ({note})" for note in notes if "EXIF" in note)
        raise Faulty(f"the image is {sizes[0]} pixels, its mask {sizes[1]}{turned}; they must agree")
