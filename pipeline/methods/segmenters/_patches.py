"""Windows of images: where they lie, one at random for training, and maps of many put together."""

from collections.abc import Callable, Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor

Window = tuple[slice, ...]


def windows(spatial: Sequence[int], patch: Sequence[int] | None, overlap: Sequence[int] | None = None) -> list[Window]:
    """Windows of `patch` cells that cover an image; neighbours share `overlap` cells, the last ones may share more.

    No patch: the whole image. A patch is cut down to the image where it is larger.
    """
    patch = spatial if patch is None else patch
    shared = (0,) * len(spatial) if overlap is None else overlap
    axes = [_starts(*sides) for sides in zip(spatial, patch, shared, strict=True)]
    lengths = [min(sides) for sides in zip(spatial, patch, strict=True)]
    return [tuple(slice(a, a + n) for a, n in zip(corner, lengths, strict=True)) for corner in product(*axes)]


def _starts(side: int, patch: int, overlap: int) -> list[int]:
    last = max(side - patch, 0)
    return [*range(0, last, patch - overlap), last]


def random_window(spatial: Sequence[int], patch: Sequence[int], rng: np.random.Generator) -> Window:
    """A window of `patch` cells, each place equally often."""
    starts = [int(rng.integers(max(side - own, 0) + 1)) for side, own in zip(spatial, patch, strict=True)]
    return tuple(slice(a, a + min(n, s)) for a, n, s in zip(starts, patch, spatial, strict=True))


def stitched(image: Tensor, places: Sequence[Window], scores: Callable[[Tensor], Tensor]) -> Tensor:
    """Probabilities [N, B, K, *spatial] of images [B, C, *spatial], from windows seen one by one.

    `scores` gives log-probabilities [N, B, K, *window]; where windows overlap their mean counts.
    """
    total, count = torch.zeros(()), torch.zeros(image.shape[2:], device=image.device)
    for place in places:
        found = scores(image[(..., *place)])
        if not total.ndim:
            total = found.new_zeros(*found.shape[:3], *image.shape[2:])
        total[(..., *place)] += found
        count[place] += 1
    return (total / count).softmax(2)
