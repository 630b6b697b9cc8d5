"""Batches: an order of samples that depends on the seed only, planned globally and then sharded over processes."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from pipeline.core import seeding
from pipeline.core.contracts import IGNORED, Batch
from pipeline.core.errors import UserError
from pipeline.data.arrays import load_arrays, load_images
from pipeline.data.image_set import ImageSet
from pipeline.data.mixtures import Mixture

Augment = Callable[[Tensor, Tensor, np.random.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Pairs:
    """Decoded pairs, pictures as bytes; in memory, or mapped from files if the set is large."""

    image: Tensor  # [N, C, H, W] uint8, of volumes [N, C, X, Y, Z] float32 in [0, 1]
    mask: Tensor  # [N, *spatial] uint8; the majority of several raters
    prompts: tuple[str, ...]
    ids: tuple[str, ...]
    masks: Tensor | None = None  # [N, R, *spatial] uint8 of several raters
    synthetic: tuple[bool, ...] = ()  # which are synthetic; empty: none

    @classmethod
    def read(cls, images: ImageSet) -> "Pairs":
        """Decode a set. Raises UserError if it is empty."""
        if not len(images):
            raise UserError(f"{images.folder}: there is no image in this selection; is a split empty?")
        arrays = load_arrays(images)
        image, mask = torch.from_numpy(arrays.image), torch.from_numpy(arrays.mask)
        masks = None if arrays.masks is None else torch.from_numpy(arrays.masks)
        synthetic = tuple(bool(row["synthetic"]) for row in images)
        return cls(image, mask, tuple(row["prompt"] for row in images), tuple(images.ids), masks, synthetic)

    @classmethod
    def read_images(cls, *sets: ImageSet) -> "Pairs":
        """Decode the images of sets of one size, labelled or not, for training without masks; the masks are empty.

        Raises UserError if the sets hold no images.
        """
        rows = [row for images in sets for row in images]
        if not rows:
            raise UserError(f"{sets[0].folder}: there is no image in this selection; is a split empty?")
        image = torch.from_numpy(load_images(sets))
        mask = torch.zeros((), dtype=torch.uint8).expand(len(rows), *image.shape[2:])  # one byte in memory
        return cls(image, mask, tuple(row["prompt"] for row in rows), tuple(row["id"] for row in rows))

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Batches:
    """Global batches of `batch_size` samples; every sample occurs once per epoch, in an order seeded per epoch."""

    pairs: Pairs
    batch_size: int
    seed: object  # any name; part of every stream's name
    augment: Augment | None = None
    mixture: Mixture | None = None  # None: all pairs equally often
    epochs: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict, repr=False, compare=False)

    def plan(self, step: int) -> list[int]:
        """Return the indices of the global batch of one step."""
        first = step * self.batch_size
        return [self._at(position) for position in range(first, first + self.batch_size)]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the shard of one process: every world-th sample of the global batch, counted from its rank."""
        shard = list(enumerate(self.plan(step)))[rank::world]
        streams = tuple(f"{self.seed}/{step}/{position}" for position, _ in shard)
        pairs = [self._pair(index, stream) for (_, index), stream in zip(shard, streams, strict=True)]
        image, mask = torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])
        prompts = tuple(self.pairs.prompts[index] for _, index in shard)
        synthetic = tuple(self.pairs.synthetic[index] for _, index in shard) if self.pairs.synthetic else ()
        return Batch(image, mask, prompts, streams, synthetic, bool((mask == IGNORED).any()))

    def _pair(self, index: int, stream: str) -> tuple[Tensor, Tensor]:
        image, mask = to_unit_range(self.pairs.image[index]), self._mask(index, stream).long()
        return (
            (image, mask) if self.augment is None else self.augment(image, mask, seeding.numpy_rng(stream, "augment"))
        )

    def _mask(self, index: int, stream: str) -> Tensor:
        """Return the mask of one image; of several raters the mask of one, drawn from the stream of the sample."""
        if self.pairs.masks is None:
            return self.pairs.mask[index]
        raters = self.pairs.masks.shape[1]
        return self.pairs.masks[index, int(seeding.numpy_rng(stream, "rater").integers(raters))]

    def _at(self, position: int) -> int:
        if self.mixture is None:
            return self._nth("order", position, len(self.pairs))
        return self._within(self.mixture, position, "")

    def _within(self, mixture: Mixture, position: int, stream: str) -> int:
        """Return the index at a position of a mixture; `stream` names the group of pairs that it mixes."""
        second, count = mixture.share_at(position)
        group = mixture.second if second else mixture.first
        stream += "second" if second else "first"
        if isinstance(group, Mixture):
            return self._within(group, count, f"{stream}/")
        return group[self._nth(stream, count, len(group))]

    def _nth(self, stream: str, position: int, size: int) -> int:
        """Return the index at a position of an endless sequence of shuffled epochs over `size` indices."""
        epoch, offset = divmod(position, size)
        if stream not in self.epochs or self.epochs[stream][0] != epoch:
            self.epochs[stream] = epoch, seeding.numpy_rng(self.seed, stream, epoch).permutation(size)
        return int(self.epochs[stream][1][offset])


def to_unit_range(image: Tensor) -> Tensor:
    """Return images as floats in [0, 1]: bytes are divided by 255, floats are in this range already."""
    return image.float() / 255 if image.dtype == torch.uint8 else image.float()


def flip(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mirror half of the pairs left to right."""
    return (image.flip(-1), mask.flip(-1)) if rng.random() < 0.5 else (image, mask)


def dihedral(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Apply one of the eight flips and quarter turns of a square, each equally often."""
    turns = int(rng.integers(4))
    image, mask = torch.rot90(image, turns, (-2, -1)), torch.rot90(mask, turns, (-2, -1))
    return flip(image, mask, rng)
