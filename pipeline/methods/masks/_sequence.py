"""A sequence of masks computed on access: any number of masks in the memory of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index as as_integer
from typing import overload

from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet


@dataclass(frozen=True)
class LazyMasks(Sequence[ConditioningMask]):
    """`number` masks, the k-th of them `make(k)`; none is cached."""

    number: int
    make: Callable[[int], ConditioningMask]
    digest: str = ""  # of what they are made of beside the training set; part of fingerprints

    def __len__(self) -> int:
        return self.number

    @overload
    def __getitem__(self, index: int) -> ConditioningMask: ...

    @overload
    def __getitem__(self, index: slice) -> list[ConditioningMask]: ...

    def __getitem__(self, index: int | slice) -> ConditioningMask | list[ConditioningMask]:
        if isinstance(index, slice):
            return [self.make(k) for k in range(*index.indices(self.number))]
        k = as_integer(index)
        if not -self.number <= k < self.number:
            raise IndexError(f"mask {k} of {self.number}")
        return self.make(k % self.number)


def mask_id(method: str, index: int) -> str:
    """Return the id of the index-th mask: safe in file names, sorted as the indices, independent of the count."""
    return f"{method}_{index:09d}"


def require_images(train: ImageSet) -> ImageSet:
    """Return the set itself. Raises UserError where it is empty: there is nothing to make masks from."""
    if not len(train):
        raise UserError(f"{train.folder}: the training split holds no image, so there is no mask to start from")
    return train
