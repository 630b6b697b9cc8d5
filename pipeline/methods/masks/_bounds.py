"""Bounds of transformed masks: every lesion is kept, with its area, and stays inside the image."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator
from scipy import ndimage

from pipeline.core.section import Section

Mask = NDArray[np.uint8]  # [H, W] label map
SPECK = 0.01  # of its class's area; a smaller region (a stray pixel of an outline) may vanish
TOUCHING = np.ones((3, 3))  # pixels that meet at a corner belong together


class Bounds(Section):
    """How far a transform may go, and how many are tried before it is weakened."""

    area: tuple[float, float] = (0.5, 2.0)
    """Smallest and largest area of each class, as multiples of its area in the source mask."""
    tries: int = Field(default=20, ge=1, le=1000)
    """Transforms that are tried within the bounds; afterwards the last one is weakened until it fits."""

    @model_validator(mode="after")
    def area_allows_no_change(self) -> Self:
        check_range("area", self.area, 0.01, 100)
        return self


def check_range(name: str, limits: tuple[float, float], lowest: float, highest: float) -> None:
    """Raise ValueError where (low, high) excludes 1, no change, or exceeds the limits lowest and highest."""
    low, high = limits
    if not lowest <= low <= 1 <= high <= highest:
        raise ValueError(
            f"{name} must be [low, high] with {lowest} <= low <= 1 <= high <= {highest}, found {[*limits]}"
        )


@dataclass(frozen=True)
class SourceMask:
    """A mask and the measurements that a transform must keep."""

    pixels: Mask
    areas: NDArray[np.intp]  # [256] pixels per label
    cut: frozenset[int]  # labels that reach the frame
    regions: NDArray[np.int32]  # [H, W] connected regions of one label each; 0: background and specks
    number: int  # of regions

    @classmethod
    def of(cls, pixels: Mask) -> Self:
        """Measure a mask once for all tries."""
        regions, number = lesions(pixels)
        return cls(pixels, areas(pixels), on_frame(pixels), regions, number)

    def allows(self, lookup: NDArray[np.intp], bounds: Bounds) -> bool:
        """Return whether result = source[lookup] keeps every class's area and every region, and cuts off none.

        A label that is clear of the frame stays clear of it; one that the frame cuts may be cut elsewhere.
        """
        result = self.pixels.ravel()[lookup]
        present = self.areas > 0
        present[0] = False  # background
        ratios = areas(result)[present] / self.areas[present]
        low, high = bounds.area
        if not ((ratios >= low) & (ratios <= high)).all() or not on_frame(result) <= self.cut:
            return False
        return bool(np.bincount(self.regions.ravel()[lookup].ravel(), minlength=self.number + 1)[1:].all())


def areas(pixels: Mask) -> NDArray[np.intp]:
    """Count the pixels of each of the 256 labels."""
    return np.bincount(pixels.ravel(), minlength=256)


def on_frame(pixels: Mask) -> frozenset[int]:
    """Return the labels, without background, in the outermost rows and columns."""
    edges = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    return frozenset(np.unique(edges).tolist()) - {0}


def lesions(pixels: Mask) -> tuple[NDArray[np.int32], int]:
    """Label the connected regions of each label from 1 on; return them and their number, without specks."""
    regions, number = np.zeros(pixels.shape, np.int32), 0
    for label in np.unique(pixels[pixels > 0]).tolist():
        components = np.zeros(pixels.shape, np.int32)
        ndimage.label(pixels == label, TOUCHING, output=components)
        sizes = np.bincount(components.ravel())[1:]
        kept = np.flatnonzero(sizes >= min(SPECK * sizes.sum(), sizes.max()))
        renumber = np.zeros(len(sizes) + 1, np.int32)
        renumber[kept + 1] = number + 1 + np.arange(len(kept))
        regions += renumber[components]
        number += len(kept)
    return regions, number
