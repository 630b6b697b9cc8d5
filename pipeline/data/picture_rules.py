"""What a study says of its picture files that they do not say themselves: levels of 16 bits, colours of labels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.data.invalid import InvalidData

DEEP_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I")  # Pillow's, of one plane with more than 8 bits
Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class PictureRules:
    """The rules of a study for its picture files."""

    window: tuple[float, float] | None = None  # levels that become 0 and 255, of images with more than 8 bits
    palette: tuple[Colour, ...] = ()  # colours of the labels 0, 1, 2 ... in masks; none: grey levels or indices

    def __bool__(self) -> bool:
        return self.window is not None or bool(self.palette)


NO_RULES = PictureRules()


def windowed(levels: NDArray[np.generic], window: tuple[float, float]) -> Pixels:
    """Return grey levels [H, W] with the window's ends at 0 and 255, what lies outside cut off."""
    low, high = window
    share = (levels.astype(np.float64) - low) / (high - low)
    return np.round(np.clip(share, 0, 1) * 255).astype(np.uint8)


def labels_of(colours: Pixels, palette: tuple[Colour, ...]) -> Pixels:
    """Return the labels [H, W] of colours [H, W, 3]. Raises InvalidData where a colour is that of no label."""
    codes = _codes(colours)
    known = _codes(np.array(palette, np.uint8))
    order = np.argsort(known)
    places = np.searchsorted(known[order], codes).clip(max=len(known) - 1)
    labels = order[places]
    if (wrong := codes[known[labels] != codes]).size:
        code, count = (int(number[0]) for number in np.unique(wrong, return_counts=True))
        colour = [code >> 16, code >> 8 & 255, code & 255]
        raise InvalidData(
            f"{wrong.size} pixels of its mask have colours that data.palette does not name, for example {colour}"
            f" ({count} pixels); name them, or save the mask without blurring (JPEG changes colours)"
        )
    return labels.astype(np.uint8)


def _codes(colours: Pixels) -> NDArray[np.int64]:
    """Return one number per colour of [..., 3]."""
    red, green, blue = np.moveaxis(colours.astype(np.int64), -1, 0)
    return red << 16 | green << 8 | blue
