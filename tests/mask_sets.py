"""Masks drawn by hand, training sets of given masks, and whether a label reaches the frame."""

from pathlib import Path

import numpy as np

from pipeline.data import phantom
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample

Mask = np.ndarray


def written(folder: Path, masks: list[Mask], classes: int = 2) -> ImageSet:
    """A training set of these masks."""
    size = len(masks[0])
    image = np.zeros((3, size, size), np.uint8)
    samples = [Sample(f"case_{n:03d}", image, mask[None], "A.", "train") for n, mask in enumerate(masks)]
    spec = DatasetSpec(name="masks", size=size, num_classes=classes)
    return ImageSet.create(folder, spec, ((sample, {}) for sample in samples))


def phantom_masks(folder: Path, count: int, classes: int) -> ImageSet:
    """Masks of the default data set at 64 pixels; with three classes an instrument reaches in from the frame."""
    look = phantom.Difficulty(0.7, 0)
    return written(folder, [phantom.draw(f"masks/{n}", 64, look, classes == 3)[1] for n in range(count)], classes)


def box(size: int, *sides: slice) -> Mask:
    """Ones in a rectangle (rows, columns) of zeros."""
    mask = np.zeros((size, size), np.uint8)
    mask[sides] = 1
    return mask


def reaches_the_frame(mask: Mask, label: int) -> bool:
    """Whether the outermost pixels hold the label."""
    return int((mask == label).sum()) > int((mask[1:-1, 1:-1] == label).sum())
