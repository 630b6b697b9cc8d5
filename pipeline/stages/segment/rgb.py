"""Images and masks as RGB pictures for people, and the gap and ground of their mosaics."""

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
GAP, BACKGROUND = 2, 160  # pixels between cells of a mosaic, and their grey level


def to_rgb(image: Pixels) -> Pixels:
    """Return an image [C, H, W] as [H, W, 3]; of images without three channels only the first is shown."""
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image[0][..., None].repeat(3, -1)


def gray_to_rgb(intensity: NDArray[np.floating]) -> Pixels:
    """Return intensities [H, W] in [0, 1] as grey levels [H, W, 3]."""
    return (intensity * 255).round().astype(np.uint8)[..., None].repeat(3, -1)
