"""Training masks under seeded transforms: drawn again while they exceed the bounds, in the end weakened to fit."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core import seeding
from pipeline.core.contracts import ConditioningMask
from pipeline.data.image_set import ImageSet
from pipeline.methods.masks._bounds import Bounds, Mask, SourceMask
from pipeline.methods.masks._sequence import LazyMasks, mask_id, require_images
from pipeline.methods.masks._warp import Lookup

Transform = Mapping[str, Any]  # plain JSON with every number of the transform
Strength = float  # 1: as drawn, 0: mirrored at most
DrawTransform = Callable[[np.random.Generator, Mask], Callable[[Strength], Transform]]
ComputeLookup = Callable[[int, Transform], Lookup | None]  # None: the transform is not usable
WEAKER = (0.5, 0.25, 0.125, 0.0)


@dataclass(frozen=True)
class MaskTransformer:
    """Makes the k-th mask: training mask k modulo their number, under the transform of the stream (seed, method, k)."""

    method: str
    train: ImageSet
    seed: str
    bounds: Bounds
    draw: DrawTransform
    lookup: ComputeLookup

    def __call__(self, index: int) -> ConditioningMask:
        row = self.train.rows[index % len(self.train)]
        source = SourceMask.of(self.train.mask(row))
        for transform in self._candidates(seeding.numpy_rng(self.seed, self.method, index), source.pixels):
            lookup = self.lookup(len(source.pixels), transform)
            if lookup is not None and source.allows(lookup, self.bounds):
                pixels = source.pixels.ravel()[lookup]
                name = mask_id(self.method, index)
                return ConditioningMask(name, row["id"], transform, pixels, row["prompt"], row["source"])
        raise AssertionError("a transform of strength 0 keeps every bound")

    def _candidates(self, rng: np.random.Generator, mask: Mask) -> Iterator[Transform]:
        drawn = self.draw(rng, mask)
        for _ in range(1, self.bounds.tries):
            yield drawn(1.0)
            drawn = self.draw(rng, mask)
        yield from map(drawn, (1.0, *WEAKER))


def transformed_masks(transformer: MaskTransformer, count: int | None) -> LazyMasks:
    """Return `count` masks (None: one per training image). Raises UserError where there is no training image."""
    train = require_images(transformer.train)
    return LazyMasks(len(train) if count is None else count, transformer)
