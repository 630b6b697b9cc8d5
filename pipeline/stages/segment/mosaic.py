"""Pictures side by side, for people: images and masks as RGB cells of equal size on a grey ground."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
GAP, BACKGROUND = 2, 160  # pixels between cells, and their grey level


def mosaic(rows: Sequence[Sequence[Pixels]]) -> Pixels:
    """Return one picture [H', W', 3] of rows of cells [H, W, 3]; short rows end in blank cells."""
    length = max(map(len, rows))
    blank = np.full_like(rows[0][0], BACKGROUND)
    lines = [[*row, *[blank] * (length - len(row))] for row in rows]
    return np.concatenate([np.concatenate([_padded(cell) for cell in line], 1) for line in lines])[GAP:, GAP:]


def to_rgb(image: Pixels) -> Pixels:
    """Return an image [C, H, W] as [H, W, 3]; of images without three channels only the first is shown."""
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image[0][..., None].repeat(3, -1)


def gray_to_rgb(intensity: NDArray[np.floating]) -> Pixels:
    """Return intensities [H, W] in [0, 1] as grey levels [H, W, 3]."""
    return (intensity * 255).round().astype(np.uint8)[..., None].repeat(3, -1)


def _padded(cell: Pixels) -> Pixels:
    return np.pad(cell, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=BACKGROUND)
