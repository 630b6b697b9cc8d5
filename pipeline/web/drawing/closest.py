"""The training images that look most like an image, by the pixel distance of the audit."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.metrics.images import copies
from pipeline.stages.audit.copy_search import SAME, Thumbnails
from pipeline.stages.audit.training_images import TrainingImages

SHOWN = 3
BLOCK = 64  # images whose thumbnails are computed at once


@dataclass(frozen=True)
class Close:
    """A training image, and how far it is away."""

    id: str
    distance: float  # 1 - correlation of grey thumbnails over flips and shifts, in [0, 2]
    image: NDArray[np.uint8]  # [C, H, W]

    @property
    def same(self) -> bool:
        """Whether the two look like one picture."""
        return self.distance < SAME


@dataclass
class Closest:
    """Finds the nearest of the images that the generator, or its base, was trained on."""

    training: TrainingImages

    @cached_property
    def thumbnails(self) -> NDArray[np.float16]:
        """Thumbnails [N, S, S] of all training images; computed for the first image that is compared."""
        blocks = range(0, len(self.training), BLOCK)
        return np.concatenate([self._block(range(first, min(first + BLOCK, len(self.training)))) for first in blocks])

    def _block(self, positions: range) -> NDArray[np.float16]:
        return Thumbnails()(torch.from_numpy(np.stack([self.training.picture(position) for position in positions])))

    def find(self, image: NDArray[np.uint8]) -> list[Close]:
        """Return the nearest images to [C, H, W], the nearest first."""
        thumbnail, positions, found = Thumbnails()(torch.from_numpy(image[None].copy())), list[int](), list[Close]()
        while len(found) < min(SHOWN, len(self.training)):
            nearest = copies.nearest_pixels(thumbnail, self.thumbnails, [positions])
            position = int(nearest.index[0])
            positions.append(position)
            picture = self.training.picture(position)
            found.append(Close(self.training.id(position), float(nearest.distance[0]), picture))
        return found
