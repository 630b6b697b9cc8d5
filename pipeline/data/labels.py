"""Grey values of a mask file to labels 0..K-1; whatever is not clearly one or the other is refused."""

import numpy as np
from numpy.typing import NDArray

from pipeline.data.decoding import Faulty

THRESHOLD = 127  # a binary mask's grey values above it are foreground (as in the method's own code)


def from_mask(mask: NDArray[np.uint8], num_classes: int) -> tuple[NDArray[np.uint8], list[str]]:
    """The label map [H, W] of a mask as stored, and what had to be mended. Raises Faulty."""
    if num_classes == 2:
        return _binary(mask)
    unknown = [int(value) for value in np.unique(mask) if value >= num_classes]
    if unknown:
        raise Faulty(
            f"its mask holds the labels {listed(unknown)}; data.num_classes {num_classes} allows {allowed(num_classes)}"
        )
    return mask, []


def _binary(mask: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], list[str]]:
    """{0, 1} and {0, 255} are read exactly, other grey levels by the threshold.

    Values that are neither labels nor reach the threshold would vanish without a word, so they are refused: most
    often they are labels of more classes than data.num_classes says.
    """
    values = np.unique(mask)
    if values.max(initial=0) <= 1:
        return mask, []
    if values.max() <= THRESHOLD:
        unknown = [int(value) for value in values if value > 1]
        raise Faulty(
            f"its mask holds the values {listed(unknown)}; a binary mask holds 0 and 1, or grey levels with foreground"
            f" above {THRESHOLD}; for a label map raise data.num_classes"
        )
    grey = [f"mask: grey levels, foreground is what exceeds {THRESHOLD}"] if set(values.tolist()) - {0, 255} else []
    return (mask > THRESHOLD).astype(np.uint8), grey


def listed(values: list[int]) -> str:
    """Numbers in a sentence, the first eight of them."""
    return ", ".join(map(str, values[:8])) + (" ..." if len(values) > 8 else "")


def allowed(num_classes: int) -> str:
    """The labels of K classes in a sentence."""
    return f"0 to {num_classes - 1}"
