"""How close each synthetic image is to the training image of its own mask, moved as that mask was moved.

A search through the training images as they are misses copies that are turned or scaled. Here the image that a copy
would show is known, so it is moved first. The number tells an image that follows a mask from one that repeats an image,
as a generator does that is given the image when it draws (`control: mask_image`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.image_set import ImageSet, Row
from pipeline.data.moved_images import own_image
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.stages.audit.training_images import TrainingImages

EVEN = 1e-6  # product of the lengths of two centred thumbnails, below which one of them shows nothing


@dataclass(frozen=True)
class OwnImages:
    """What was found for each of N synthetic images."""

    distances: tuple[float | None, ...]  # 1 - correlation of thumbnails, 0 to 2; None: its mask is of no training image

    def record(self, same: float) -> dict[str, Any]:
        """The number of images with an own one, their mean distance, and how many are nearer than `same`."""
        known = [one for one in self.distances if one is not None]
        return {
            "images": len(known),
            "mean_distance": float(np.mean(known)),
            "near_copies": sum(d < same for d in known),
        }


def compare(synthetic: ImageSet, train: TrainingImages, cache: FeatureCache, probe: str) -> OwnImages | None:
    """Compare thumbnails, a probe of the cache; None where no mask of the set is made of a training image's."""
    places = [(images, {row["id"]: row for row in images}) for images in train.sets]
    made, thumbnail = cache.features(synthetic, probe), cache.probes[probe]

    def distance(row: Row, thumbnail_of_row: NDArray[np.float16]) -> float | None:
        found = (own_image(row, rows, images) for images, rows in places if row["source_id"] in rows)
        image = None if "keep_background" in row else next(found, None)  # its pixels are there on purpose
        if image is None:
            return None
        return _distance(thumbnail_of_row, thumbnail(torch.from_numpy(image)[None])[0])

    distances = tuple(distance(*pair) for pair in zip(synthetic, made, strict=True))
    return None if all(one is None for one in distances) else OwnImages(distances)


def _distance(one: NDArray[np.float16], other: NDArray[np.float16]) -> float:
    """Return 1 - the correlation of two thumbnails; 1 where one of them is even."""
    first, second = (values.astype(np.float64).ravel() - values.mean(dtype=np.float64) for values in (one, other))
    norms = float(np.linalg.norm(first) * np.linalg.norm(second))
    return 1 - float(first @ second) / norms if norms > EVEN else 1.0
