"""Predictions of a segmenter on the images of a set."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import to_unit_range
from pipeline.segmentation.params import Segment

Probabilities = NDArray[np.float32]


def predict_set(segmenter: Segmenter, images: ImageSet, segment: Segment) -> Iterator[Probabilities]:
    """Yield the probabilities [S, K, *spatial] of each image in the order of the rows.

    S is segment.num_samples for a stochastic segmenter (about["stochastic"]), else 1: all its samples are equal.
    """
    for image in image_batches(images, segment.batch_size):
        if segment.num_samples > 1 and segmenter.about.get("stochastic"):
            probabilities = segmenter.predict(image, segment.num_samples)
        else:
            probabilities = segmenter.predict(image)
        yield from probabilities.float().cpu().numpy()


def image_batches(images: ImageSet, batch_size: int) -> Iterator[torch.Tensor]:
    """Yield images [B, C, *spatial] in [0, 1] in the order of the rows; volumes one at a time."""
    size = 1 if images.spec.ndim == 3 else batch_size
    for start in range(0, len(images), size):
        rows = images.rows[start : start + size]
        yield to_unit_range(torch.from_numpy(np.stack([images.image(row) for row in rows])))


def evenly_spaced(images: ImageSet, count: int) -> ImageSet:
    """Return at most `count` of the images, evenly spaced over all of them."""
    indices = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return images.select(images.rows[index] for index in indices)


def resize_probabilities(probabilities: Probabilities, shape: tuple[int, ...]) -> Probabilities:
    """Resize probabilities [K, H, W] to another size [H, W], bilinearly between pixel centres."""
    if probabilities.shape[1:] == shape:
        return probabilities
    batch = torch.from_numpy(probabilities)[None]
    return F.interpolate(batch, size=shape, mode="bilinear", align_corners=False)[0].numpy()
