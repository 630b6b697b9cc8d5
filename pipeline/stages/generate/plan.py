"""The plan of a synthetic set: which masks are sampled how often, in which batch; a batch follows from its number."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.contracts import ConditioningMask
from pipeline.stages.generate.real_pixels import Background

FLAT = 10_000  # images; a larger set lies in folders of SHELF files
SHELF = 1000


@dataclass(frozen=True)
class PlannedImage:
    """One image to be generated."""

    mask: ConditioningMask
    copy: int
    position: int  # in the plan
    shelf: str  # folder below images/ and masks/; empty: none
    background: Background | None = None  # the training image that lends its pixels; None: every pixel is drawn

    @property
    def label(self) -> NDArray[np.uint8]:
        """The label map [H, W] that the image follows: the mask, or what it makes of a background's own."""
        return self.mask.pixels if self.background is None else self.background.label

    @property
    def id(self) -> str:
        """Unique in the set, part of file names."""
        return f"{self.mask.id}_c{self.copy}"


@dataclass(frozen=True)
class Plan(Sequence[list[PlannedImage]]):
    """Batches of images, all first copies before all second ones; they do not depend on the number of processes."""

    masks: Sequence[ConditioningMask]
    copies: int
    batch_size: int
    background: Callable[[ConditioningMask, int], Background] | None = None  # of a mask and a copy; None: none

    @property
    def images(self) -> int:
        """The number of images of the set."""
        return len(self.masks) * self.copies

    def __len__(self) -> int:
        return (self.images + self.batch_size - 1) // self.batch_size

    def __getitem__(self, number: int) -> list[PlannedImage]:  # type: ignore[override]
        if not 0 <= number < len(self):
            raise IndexError(number)
        start = number * self.batch_size
        return [self._planned(position) for position in range(start, min(start + self.batch_size, self.images))]

    def _planned(self, position: int) -> PlannedImage:
        copy, place = divmod(position, len(self.masks))
        shelf = f"{position // SHELF:06d}" if self.images > FLAT else ""
        mask = self.masks[place]
        return PlannedImage(mask, copy, position, shelf, self.background(mask, copy) if self.background else None)
