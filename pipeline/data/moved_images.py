"""Training images moved as the masks that were made of theirs, so that image and mask still belong together."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, Row

Image = NDArray[np.uint8]  # [3, H, W]


def moves_images(masks: str) -> bool:
    """Return whether masks of this kind (a file of methods/masks) say where each pixel of a training mask went."""
    return hasattr(plugins.load("masks", masks), "lookup")


@cache
def movable() -> tuple[str, ...]:
    """Return all such kinds of masks."""
    return tuple(name for name in plugins.names("masks") if moves_images(name))


def moved_image(image: Image, masks: str, transform: Mapping[str, Any]) -> Image:
    """Move an image [3, H, W] as the mask whose `transform` this is, each pixel from the nearest one of the source."""
    lookup = plugins.load("masks", masks).lookup(image.shape[-1], transform)
    return image.reshape(len(image), -1)[:, lookup]


def own_image(row: Row, train: Mapping[str, Row], images: ImageSet) -> Image | None:
    """Return the training image of a synthetic image's mask, moved as the mask; None where there is no such image.

    `train` are the rows of `images`, the training images, by id. Raises UserError where the column `transform` is not
    what the stage generate writes.
    """
    source, transform = train.get(row["source_id"]), row.get("transform")
    if source is None or transform is None or row.get("masks") not in movable():
        return None
    try:
        return moved_image(images.picture(source), row["masks"], json.loads(transform))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{row['id']}: the column transform does not say how masks: {row['masks']} moved the mask"
            f" ({type(error).__name__}: {error}); run generate again"
        ) from None
