"""Images that belong together: by the real image whose mask, transformed or not, conditioned them, or by the mask."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core import plugins
from pipeline.data.image_set import ImageSet, Row

ALONE = "no synthetic image was made from the mask of a training image"


@dataclass(frozen=True)
class Partners:
    """Row indices of synthetic images and of their real ones, pair by pair, and the ids of the masks."""

    synthetic: list[int]
    real: list[int]
    masks: list[str]


def partners(train: ImageSet, synthetic: ImageSet) -> Partners:
    """Return all pairs; an image whose mask no training image has is in none."""
    positions = {identity: k for k, identity in enumerate(train.ids)}
    paired = [k for k, row in enumerate(synthetic) if row["source_id"] in positions]
    masks = [synthetic.rows[k]["source_id"] for k in paired]
    return Partners(paired, [positions[mask] for mask in masks], masks)


def mask(row: Row) -> str:
    """Return the id of the mask of an image, which its copies share; without mask_id it is the training mask itself."""
    return row.get("mask_id", row["source_id"])


def families(images: ImageSet) -> list[str]:
    """Return the cluster of each image: the source of its mask, or the mask if a procedure (masks/*.py) made it."""
    procedures = set(plugins.names("masks"))
    return [mask(row) if row["source_id"] in procedures else row["source_id"] for row in images]


def column(pairs: Partners, values: NDArray[np.floating], count: int) -> list[float | None]:
    """Return one value per synthetic image for images.csv, None for images without a partner."""
    cells: list[float | None] = [None] * count
    for k, value in zip(pairs.synthetic, values, strict=True):
        cells[k] = round(float(value), 6)
    return cells
