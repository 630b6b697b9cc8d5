"""Masks that are made when they are asked for: as many as one likes in the memory of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import index as as_integer
from typing import overload

from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet


@dataclass(frozen=True)
class Masks(Sequence[ConditioningMask]):
    """`number` masks, the k-th of them `make(k)`; nothing is kept."""

    number: int
    make: Callable[[int], ConditioningMask]
    digest: str = ""  # what else than the training set they are made of; belongs into a fingerprint

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


def numbered(method: str, index: int) -> str:
    """The id of the index-th mask: fit for file names, sorted as the indices are, the same whatever the count."""
    return f"{method}_{index:09d}"


def needed(train: ImageSet) -> ImageSet:
    """The set itself. Raises UserError where it is empty: there is nothing to make masks from."""
    if not len(train):
        raise UserError(f"{train.folder}: no image in the training split, so there is no mask to start from")
    return train
