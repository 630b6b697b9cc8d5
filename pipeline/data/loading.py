"""Batches: a plan over steps that depends on nothing but the seed, cut before it is dealt to processes."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pipeline.core import seeding
from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.data.decoded import arrays
from pipeline.data.image_set import ImageSet

Augment = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Pairs:
    """Decoded pairs, pictures as bytes; in memory, large sets in files that are mapped into it."""

    image: Tensor  # [N, C, H, W] uint8, of volumes [N, C, X, Y, Z] float32 in [0, 1]
    mask: Tensor  # [N, *spatial] uint8; of several raters what most say
    prompts: tuple[str, ...]
    ids: tuple[str, ...]
    masks: Tensor | None = None  # [N, R, *spatial] uint8 of several raters
    synthetic: tuple[bool, ...] = ()  # which are synthetic; empty: none

    @classmethod
    def read(cls, images: ImageSet) -> "Pairs":
        """Decodes a set. Raises UserError where it is empty."""
        if not len(images):
            raise UserError(f"{images.folder}: no image in this selection; is a split empty?")
        found = arrays(images)
        image, mask = torch.from_numpy(found.image), torch.from_numpy(found.mask)
        masks = None if found.masks is None else torch.from_numpy(found.masks)
        synthetic = tuple(bool(row["synthetic"]) for row in images)
        return cls(image, mask, tuple(row["prompt"] for row in images), tuple(images.ids), masks, synthetic)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batches:
    """Global batches of `batch_size` samples; every sample is seen once per pass, in an order seeded per pass."""

    pairs: Pairs
    batch_size: int
    seed: object  # any name; part of every stream's name
    augment: Augment | None = None
    mixture: "Mixture | None" = None  # None: all pairs equally often
    passes: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)

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
        synthetic = tuple(self.pairs.synthetic[index] for _, index in dealt) if self.pairs.synthetic else ()
        return Batch(image, mask, prompts, streams, synthetic)

    def _pair(self, index: int, stream: str) -> tuple[Tensor, Tensor]:
        image, mask = unit(self.pairs.image[index]), self._mask(index, stream).long()
        return (
            (image, mask) if self.augment is None else self.augment(image, mask, seeding.numpy_rng(stream, "augment"))
        )

    def _mask(self, index: int, stream: str) -> Tensor:
        """The mask of one image; of several raters that of one, drawn by the sample's own stream."""
        if self.pairs.masks is None:
            return self.pairs.mask[index]
        raters = self.pairs.masks.shape[1]
        return self.pairs.masks[index, int(seeding.numpy_rng(stream, "rater").integers(raters))]

    def _at(self, position: int) -> int:
        if self.mixture is None:
            return self._nth("order", position, len(self.pairs))
        second, count = self.mixture.share_at(position)
        chosen = self.mixture.second if second else self.mixture.first
        return chosen[self._nth("second" if second else "first", count, len(chosen))]

    def _nth(self, stream: str, position: int, size: int) -> int:
        """The place drawn at a position of an endless sequence of shuffled passes over `size` places."""
        turn, place = divmod(position, size)
        if stream not in self.passes or self.passes[stream][0] != turn:
            self.passes[stream] = turn, seeding.numpy_rng(self.seed, stream, turn).permutation(size)
        return int(self.passes[stream][1][place])


@dataclass(frozen=True)
class Mixture:
    """Two groups of pairs that share every batch in a fixed ratio, each in passes of its own."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    share: float  # of the second group, in (0, 1)

    def share_at(self, position: int) -> tuple[bool, int]:
        """Whether a position belongs to the second group, and how many of its group come before it.

        The second group has floor(n share) of the first n positions, for every n.
        """
        before, with_it = math.floor(position * self.share), math.floor((position + 1) * self.share)
        return (True, before) if with_it > before else (False, position - before)


def unit(image: Tensor) -> Tensor:
    """Images as floats in [0, 1]: bytes are divided by 255, floats are there already."""
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def flip(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mirrors half of the pairs left to right."""
    return (image.flip(-1), mask.flip(-1)) if rng.random() < 0.5 else (image, mask)


def dihedral(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """One of the eight flips and quarter turns of a square, each equally often."""
    turns = int(rng.integers(4))
    image, mask = torch.rot90(image, turns, (-2, -1)), torch.rot90(mask, turns, (-2, -1))
    return flip(image, mask, rng)
