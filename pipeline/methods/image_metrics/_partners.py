"""Which images belong together: by the real image whose mask, turned or not, conditioned them; by the mask itself."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core import plugins
from pipeline.data.image_set import ImageSet, Row

ALONE = "no synthetic image was made from the mask of a training image"


@dataclass(frozen=True)
class Partners:
    """Row numbers of synthetic images and of their real ones, pair by pair, and the masks' ids."""

    synthetic: list[int]
    real: list[int]
    masks: list[str]


def partners(train: ImageSet, synthetic: ImageSet) -> Partners:
    """All pairs; an image of a mask that no training image has is in none."""
    places = {identity: k for k, identity in enumerate(train.ids)}
    kept = [k for k, row in enumerate(synthetic) if row["source_id"] in places]
    masks = [synthetic.rows[k]["source_id"] for k in kept]
    return Partners(kept, [places[mask] for mask in masks], masks)


def mask(row: Row) -> str:
    """The mask of an image: its copies share it. Sets that do not tell use each training mask as it is."""
    return row.get("mask_id", row["source_id"])


def families(images: ImageSet) -> list[str]:
    """What each image is a cluster member of: the source of its mask; a mask of a procedure (masks/*.py) is its own."""
    procedures = set(plugins.names("masks"))
    return [mask(row) if row["source_id"] in procedures else row["source_id"] for row in images]


def column(pairs: Partners, values: NDArray[np.floating], count: int) -> list[float | None]:
    """One value per synthetic image for images.csv; None where an image has no partner."""
    cells: list[float | None] = [None] * count
    for k, value in zip(pairs.synthetic, values, strict=True):
        cells[k] = round(float(value), 6)
    return cells
