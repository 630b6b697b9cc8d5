"""Hashes of the masks of validation and test images, which must never condition a synthetic image."""

import numpy as np
from numpy.typing import NDArray

from pipeline.data import hashing
from pipeline.data.image_set import ImageSet
from pipeline.data.splitting import HELD_OUT


def mask_digest(pixels: NDArray[np.uint8]) -> str:
    """Return the hash of the pixels and the shape of a label map [H, W], however its file is compressed."""
    return hashing.content_hash(np.asarray(pixels, np.uint8))


def held_out_digests(real: ImageSet, predicted: ImageSet | None = None) -> frozenset[str]:
    """Return the digests of the masks that only held-out images have (the rule of stages.mix.leaks.check_leaks).

    A mask that segmenters have `predicted` for another image is not theirs alone.
    """
    held_out = real.select(row for row in real if row["split"] in HELD_OUT)
    return digests_beyond(held_out, real.split("train")) - digests_of(predicted)


def digests_beyond(images: ImageSet, known: ImageSet) -> frozenset[str]:
    """Return the digests of the masks that `images` have and `known` images do not; an empty mask is not counted."""
    masks = (images.mask(row) for row in images)
    return frozenset(mask_digest(mask) for mask in masks if mask.any()) - digests_of(known)


def digests_of(images: ImageSet | None) -> frozenset[str]:
    """Return the digests of all masks of a set; none of None."""
    return frozenset() if images is None else frozenset(mask_digest(images.mask(row)) for row in images)
