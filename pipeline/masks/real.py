"""The masks of the training images, as the paper uses them; a `count` above their number repeats them in order."""

from collections.abc import Sequence

from pipeline.contracts import ConditioningMask
from pipeline.data.image_set import ImageSet
from pipeline.parsing import Section


class Params(Section):
    """Nothing to set."""


def build(params: Params, train: ImageSet, count: int | None, seed: str) -> Sequence[ConditioningMask]:
    """One mask per training image, in the order of its rows; `count` may take fewer."""
    return RealMasks(train, len(train) if count is None else count)


class RealMasks(Sequence[ConditioningMask]):
    """Decodes a mask when it is asked for."""

    def __init__(self, train: ImageSet, count: int) -> None:
        self.train, self.count = train, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> ConditioningMask:  # type: ignore[override]
        row = self.train.rows[index % len(self.train)]
        turn = index // len(self.train)
        name = row["id"] if turn == 0 else f"{row['id']}_r{turn}"
        return ConditioningMask(name, row["id"], {}, self.train.mask(row), row["prompt"], row["source"])
