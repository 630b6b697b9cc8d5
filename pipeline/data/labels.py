"""Conversion of the grey values of a mask file to labels 0..K-1; ambiguous values are rejected."""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.contracts import IGNORED
from pipeline.data.decoding import InvalidData

IGNORED_PIXELS = "ignored_pixels"  # column of sets with such pixels: how many of a row's mask have the label IGNORED
THRESHOLD = 127  # a binary mask's grey values above it are foreground (as in the method's own code)


def label_map(
    mask: NDArray[np.uint8], num_classes: int, ignored: int | None = None
) -> tuple[NDArray[np.uint8], list[str]]:
    """Return the label map [H, W] of a mask as stored, and notes on what had to be corrected. Raises InvalidData.

    `ignored` is the value of pixels whose label is not known, which become IGNORED; all others must then be labels.
    """
    if ignored is not None:
        return _with_ignored(mask, num_classes, ignored), []
    if num_classes == 2:
        return _binary(mask)
    unknown = [int(value) for value in np.unique(mask) if value >= num_classes]
    if unknown:
        raise InvalidData(
            f"its mask holds the labels {join_values(unknown)}; data.num_classes {num_classes} allows"
            f" {label_range(num_classes)}"
        )
    return mask, []


def _with_ignored(mask: NDArray[np.uint8], num_classes: int, ignored: int) -> NDArray[np.uint8]:
    unknown = [int(value) for value in np.unique(mask) if value >= num_classes and value != ignored]
    if unknown:
        raise InvalidData(
            f"its mask holds the values {join_values(unknown)}; with data.ignore_label {ignored} masks hold the labels"
            f" {label_range(num_classes)} and {ignored}, no grey levels"
        )
    if (mask == ignored).all():
        raise InvalidData(f"all pixels of its mask are ignored ({ignored}, data.ignore_label); leave the pair out")
    return np.where(mask == ignored, IGNORED, mask).astype(np.uint8)


def foreground(masks: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels of label maps that show a class other than background; ignored ones show none."""
    return (masks > 0) & (masks != IGNORED)


def _binary(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], list[str]]:
    """Read {0, 1} and {0, 255} exactly, other grey levels by the threshold.

    Values that are neither labels nor reach the threshold would vanish silently, so they are rejected: most often
    they are labels of more classes than data.num_classes says.
    """
    values = np.unique(mask)
    if values.max(initial=0) <= 1:
        return mask, []
    if values.max() <= THRESHOLD:
        unknown = [int(value) for value in values if value > 1]
        raise InvalidData(
            f"its mask holds the values {join_values(unknown)}; a binary mask holds 0 and 1, or grey levels with"
            f" foreground above {THRESHOLD}; for a label map raise data.num_classes"
        )
    grey = [f"mask: grey levels, foreground is what exceeds {THRESHOLD}"] if set(values.tolist()) - {0, 255} else []
    return (mask > THRESHOLD).astype(np.uint8), grey


def join_values(values: list[int]) -> str:
    """Return numbers as part of a sentence, the first eight of them."""
    return ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else "")


def label_range(num_classes: int) -> str:
    """Return the labels of K classes as part of a sentence."""
    return f"0 to {num_classes - 1}"
