"""The real images that a generator can have copied: its training images, and those without masks that its base saw."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.data.image_set import ImageSet, Row
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.stages.base.manifest import unlabelled_images


def unlabelled_of(study: str) -> ImageSet | None:
    """Return the images without masks that the base of a study was pretrained on; None where there are none."""
    return ImageSet.open(paths.unlabelled(study)) if unlabelled_images(study) else None


@dataclass(frozen=True)
class TrainingImages:
    """Training images, then unlabelled ones; positions count through both."""

    train: ImageSet
    unlabelled: ImageSet | None = None  # None: the base saw none

    def __len__(self) -> int:
        return sum(len(images) for images in self.sets)

    @property
    def sets(self) -> tuple[ImageSet, ...]:
        """The one or two sets."""
        return (self.train,) if self.unlabelled is None else (self.train, self.unlabelled)

    def id(self, position: int) -> str:
        """Return the id of an image."""
        return self._at(position)[1]["id"]

    def picture(self, position: int) -> NDArray[np.uint8]:
        """Return an image [C, H, W]."""
        images, row = self._at(position)
        return images.picture(row)

    def features(self, cache: FeatureCache, probe: str) -> NDArray[Any]:
        """Return the features of all images."""
        return np.concatenate([cache.features(images, probe) for images in self.sets])

    def _at(self, position: int) -> tuple[ImageSet, Row]:
        count = len(self.train)
        if position < count or self.unlabelled is None:
            return self.train, self.train.rows[position]
        return self.unlabelled, self.unlabelled.rows[position - count]
