"""The plan of a synthetic set: which masks are sampled how often, in which batch; a batch follows from its number."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.contracts import ConditioningMask

FLAT = 10_000  # images; a larger set lies in folders of SHELF files
SHELF = 1000


@dataclass(frozen=True)
class PlannedImage:
    """One image to be generated."""

    mask: ConditioningMask
    copy: int
    shelf: str  # folder below images/ and masks/; empty: none

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
        return PlannedImage(self.masks[place], copy, shelf)
