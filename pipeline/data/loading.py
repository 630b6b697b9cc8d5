"""Batches: a plan over steps that depends on nothing but the seed, cut before it is dealt to processes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pipeline import seeding
from pipeline.contracts import Batch
from pipeline.data.image_set import ImageSet
from pipeline.errors import UserError

Augment = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Pairs:
    """Decoded pairs in memory, as bytes."""

    image: Tensor  # [N, C, H, W] uint8
    mask: Tensor  # [N, H, W] uint8
    prompts: tuple[str, ...]
    ids: tuple[str, ...]

    @classmethod
    def read(cls, images: ImageSet) -> "Pairs":
        """Decodes a set. Raises UserError where it is empty."""
        if not len(images):
            raise UserError(f"{images.folder}: no image in this selection; is a split empty?")
        image = torch.from_numpy(np.stack([images.image(row) for row in images]))
        mask = torch.from_numpy(np.stack([images.mask(row) for row in images]))
        return cls(image, mask, tuple(row["prompt"] for row in images), tuple(images.ids))

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batches:
    """Global batches of `batch_size` samples; every sample is seen once per pass, in an order seeded per pass."""

    pairs: Pairs
    batch_size: int
    seed: object  # any name; part of every stream's name
    augment: Augment | None = None
    passes: dict[int, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def plan(self, step: int) -> list[int]:
        """Indices of the global batch of one step."""
        first = step * self.batch_size
        return [self._at(position) for position in range(first, first + self.batch_size)]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """The share of one process: every world-th sample of the global batch, counted from its rank."""
        dealt = list(enumerate(self.plan(step)))[rank::world]
        streams = tuple(f"{self.seed}/{step}/{position}" for position, _ in dealt)
        pairs = [self._pair(index, stream) for (_, index), stream in zip(dealt, streams, strict=True)]
        image, mask = torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])
        prompts = tuple(self.pairs.prompts[index] for _, index in dealt)
        return Batch(image, mask, prompts, streams)

    def from_step(self, step: int, stop: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """The batches of the steps `step` to `stop` - 1."""
        return (self.batch(s, rank, world) for s in range(step, stop))

    def _pair(self, index: int, stream: str) -> tuple[Tensor, Tensor]:
        image, mask = self.pairs.image[index].float() / 255, self.pairs.mask[index].long()
        return (
            (image, mask) if self.augment is None else self.augment(image, mask, seeding.numpy_rng(stream, "augment"))
        )

    def _at(self, position: int) -> int:
        turn, place = divmod(position, len(self.pairs))
        if turn not in self.passes:
            self.passes.clear()
            self.passes[turn] = seeding.numpy_rng(self.seed, "order", turn).permutation(len(self.pairs))
        return int(self.passes[turn][place])


def flip(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mirrors half of the pairs left to right."""
    return (image.flip(-1), mask.flip(-1)) if rng.random() < 0.5 else (image, mask)


def dihedral(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One of the eight flips and quarter turns of a square, each equally often."""
    turns = int(rng.integers(4))
    image, mask = torch.rot90(image, turns, (-2, -1)), torch.rot90(mask, turns, (-2, -1))
    return flip(image, mask, rng)
