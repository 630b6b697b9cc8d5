"""Label maps as run lengths, the form in which the page sends and gets them: no picture file is decoded for it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.web.refusals import Refused

Runs = list[tuple[int, int]]  # label and number of pixels, row by row


def encode(mask: NDArray[np.uint8]) -> Runs:
    """Return the runs of a label map [H, W]."""
    flat = mask.reshape(-1)
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.concatenate([starts, [len(flat)]]))
    return [(int(flat[start]), int(length)) for start, length in zip(starts, lengths, strict=True)]


def decode(runs: Sequence[tuple[int, int]], size: int, classes: int) -> NDArray[np.uint8]:
    """Return the label map [size, size]. Raises Refused where labels or lengths are no mask of this study."""
    labels = np.array([label for label, _ in runs], np.int64)
    lengths = np.array([length for _, length in runs], np.int64)
    total = int(lengths.sum())
    if not len(runs) or lengths.min() < 1 or total != size * size:
        raise Refused(422, f"the mask has {total} pixels, and this study's masks have {size} x {size}")
    if labels.min() < 0 or labels.max() >= classes:
        raise Refused(422, f"the mask holds labels {labels.min()} to {labels.max()}; 0 to {classes - 1} are known")
    return np.repeat(labels.astype(np.uint8), lengths).reshape(size, size)
