"""Patches of images and volumes: at random places in training, on a grid with overlap in prediction."""

from collections.abc import Iterator, Sequence
from itertools import product

import numpy as np
from torch import Tensor

from pipeline.data.loading import Augment
from pipeline.errors import UserError


def random_patch(shape: Sequence[int]) -> Augment:
    """An augmentation that cuts image [C, *spatial] and mask [*spatial] to `shape` at one random place.

    Raises UserError where the image is smaller.
    """

    def cut(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        check_fits(shape, mask.shape)
        starts = [int(rng.integers(whole - part + 1)) for whole, part in zip(mask.shape, shape, strict=True)]
        place = tuple(slice(start, start + part) for start, part in zip(starts, shape, strict=True))
        return image[(slice(None), *place)], mask[place]

    return cut


def places(whole: Sequence[int], shape: Sequence[int], overlap: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Patches that cover `whole`, neighbours sharing at least `overlap`; the last along an axis ends at its end.

    Raises UserError where a patch is larger than the whole or its overlap not smaller than itself.
    """
    check_fits(shape, whole)
    if wrong := [
        axis for axis, (part, shared) in enumerate(zip(shape, overlap, strict=True)) if not 0 <= shared < part
    ]:
        raise UserError(f"overlap {list(overlap)} of patches {list(shape)}: along axis {wrong[0]} it must be smaller")
    starts = [_starts(*axis) for axis in zip(whole, shape, overlap, strict=True)]
    for corner in product(*starts):
        yield tuple(slice(start, start + part) for start, part in zip(corner, shape, strict=True))


def check_fits(shape: Sequence[int], whole: Sequence[int]) -> None:
    """Raises UserError where a patch has other axes than the whole, or is larger along one."""
    if len(shape) != len(whole) or any(part > full for part, full in zip(shape, whole, strict=True)):
        raise UserError(f"patches of {list(shape)} do not fit into images of {list(whole)} (data.size or data.shape)")


def _starts(whole: int, part: int, shared: int) -> list[int]:
    """Evenly spread, as few as possible."""
    count = 1 + -(-(whole - part) // (part - shared))
    return np.round(np.linspace(0, whole - part, count)).astype(int).tolist()
