"""Pictures of what several raters drew and what a segmenter draws: raters above, samples below."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files
from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import ImageSet, png
from pipeline.segmentation.params import Segment
from pipeline.segmentation.rater_scoring import masks_of
from pipeline.segmentation.scoring import sample_set, spread

Pixels = NDArray[np.uint8]
IMAGES = 6  # test images that are shown
GAP, PAPER = 2, 160  # pixels between cells, and their grey


def write_pictures(segmenter: Segmenter, images: ImageSet, chosen: Segment, folder: Path) -> None:
    """Writes one PNG per shown test image of a set of several raters; of other sets, and of volumes, nothing."""
    if images.spec.raters == 1 or images.spec.ndim == 3:
        return
    few = spread(images, IMAGES)
    for row, samples in zip(few, sample_set(segmenter, few, chosen), strict=True):
        masks = images.masks(row), masks_of(samples, chosen)
        drawn = picture(np.asarray(images.image(row), np.uint8), *masks, samples.mean(0))
        files.write_bytes(folder / f"{row['id']}.png", png(drawn))


def picture(image: Pixels, raters: Pixels, drawn: NDArray[np.integer], chance: NDArray[np.float32]) -> Pixels:
    """[H', W', 3]: the image [C, H, W] and the raters' masks [R, H, W]; below the chance of foreground and the samples.

    `drawn` are labels [S, H, W], `chance` their mean probability [K, H, W]. Classes are greys from black (background)
    to white.
    """
    highest = len(chance) - 1
    top = [_shown(image), *(_grey(mask / highest) for mask in raters)]
    below = [_grey(1 - chance[0]), *(_grey(labels / highest) for labels in drawn)]
    blank = np.full_like(top[0], PAPER)
    rows = [line + [blank] * (max(len(top), len(below)) - len(line)) for line in (top, below)]
    return np.concatenate([np.concatenate([_framed(cell) for cell in line], 1) for line in rows])[GAP:, GAP:]


def _shown(image: Pixels) -> Pixels:
    """Colours as they are, of other images the first contrast."""
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image[0][..., None].repeat(3, -1)


def _grey(share: NDArray[np.floating]) -> Pixels:
    return (share * 255).round().astype(np.uint8)[..., None].repeat(3, -1)


def _framed(cell: Pixels) -> Pixels:
    return np.pad(cell, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=PAPER)
