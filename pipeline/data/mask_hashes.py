"""Masks that must never condition a synthetic image: those of the validation and test splits, by their pixels."""

import numpy as np
from numpy.typing import NDArray

from pipeline.data import hashing
from pipeline.data.image_set import ImageSet
from pipeline.data.splitting import HELD_OUT


def digest(pixels: NDArray[np.uint8]) -> str:
    """Hash of a label map [H, W]: of its pixels and its shape, however its file is compressed."""
    return hashing.content(np.asarray(pixels, np.uint8))


def forbidden(real: ImageSet) -> frozenset[str]:
    """Digests of the masks that only held-out images have (the rule of mixing.check_leaks).

    An empty mask is nobody's, and a mask that a training image has too may be used.
    """
    train = real.split("train")
    held_out = real.select(row for row in real if row["split"] in HELD_OUT)
    masks = (held_out.mask(row) for row in held_out)
    return frozenset(digest(mask) for mask in masks if mask.any()) - {digest(train.mask(row)) for row in train}
