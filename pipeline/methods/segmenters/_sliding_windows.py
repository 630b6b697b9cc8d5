"""Sliding windows over images: their positions, a random one for training, and stitching of their predictions."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

Window = tuple[slice, ...]


def sliding_windows(
    spatial: Sequence[int], patch: Sequence[int] | None, overlap: Sequence[int] | None = None
) -> list[Window]:
    """Return windows of `patch` cells that cover an image; neighbours share `overlap` cells, the last may share more.

    Without a patch: the whole image. A patch is cropped to the image where it is larger.
    """
    patch = spatial if patch is None else patch
    overlap = (0,) * len(spatial) if overlap is None else overlap
    axes = [_starts(*sides) for sides in zip(spatial, patch, overlap, strict=True)]
    lengths = [min(sides) for sides in zip(spatial, patch, strict=True)]
    return [tuple(slice(a, a + n) for a, n in zip(corner, lengths, strict=True)) for corner in product(*axes)]


def _starts(side: int, patch: int, overlap: int) -> list[int]:
    last = max(side - patch, 0)
    return [*range(0, last, patch - overlap), last]


def random_window(spatial: Sequence[int], patch: Sequence[int], rng: np.random.Generator) -> Window:
    """Draw a window of `patch` cells, uniformly over all positions."""
    starts = [int(rng.integers(max(side - length, 0) + 1)) for side, length in zip(spatial, patch, strict=True)]
    return tuple(slice(a, a + min(n, s)) for a, n, s in zip(starts, patch, spatial, strict=True))


def stitch_windows(image: Tensor, windows: Sequence[Window], predict: Callable[[Tensor], Tensor]) -> Tensor:
    """Return probabilities [N, B, K, *spatial] of images [B, C, *spatial], predicted window by window.

    `predict` returns log-probabilities [N, B, K, *window]; they are averaged where windows overlap.
    """
    total, count = torch.zeros(()), torch.zeros(image.shape[2:], device=image.device)
    for window in windows:
        predicted = predict(image[(..., *window)])
        if not total.ndim:
            total = predicted.new_zeros(*predicted.shape[:3], *image.shape[2:])
        total[(..., *window)] += predicted
        count[window] += 1
    return (total / count).softmax(2)
