"""How alike masks are to training masks, wherever they lie: overlap of silhouettes at one place and size.

A silhouette is the foreground about its centre, scaled to one area; it is compared in all eight symmetries of a square.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.methods.masks._bounds import Mask

SIDE = 48  # pixels of a silhouette
WINDOW = 2.5  # its side in units of the root of the area: an ellipse of aspect 0.25 fits in
BLOCK = 256  # silhouettes compared at once


def silhouette(mask: Mask) -> NDArray[np.bool_]:
    """Return the foreground [SIDE, SIDE] of a mask that has any, about its centre, at one area; 0 beyond the frame."""
    foreground = mask > 0
    pixels = np.argwhere(foreground)
    step = WINDOW * np.sqrt(len(pixels)) / SIDE
    line = (np.arange(SIDE) - (SIDE - 1) / 2) * step
    down, right = (line + middle for middle in pixels.mean(0))
    grid = np.meshgrid(down, right, indexing="ij")
    return ndimage.map_coordinates(foreground.astype(np.float32), grid, order=1) >= 0.5


@dataclass(frozen=True)
class Likeness:
    """Silhouettes of training masks, and the overlap above which a mask is too alike to one of them."""

    silhouettes: NDArray[np.float32]  # [N, SIDE * SIDE]
    limit: float

    @classmethod
    def of(cls, masks: Iterable[Mask], groups: Sequence[object], share: float) -> Self:
        """Find the overlap that a `share` of the masks exceeds with the most alike mask of another group."""
        rows = np.stack([silhouette(mask) for mask in masks])
        flat = rows.reshape(len(rows), -1).astype(np.float32)
        names = np.array([str(group) for group in groups])
        nearest = []
        for start in range(0, len(rows), BLOCK):
            overlaps = _overlaps(rows[start : start + BLOCK], flat)
            overlaps[names[start : start + BLOCK, None] == names[None, :]] = -1.0
            nearest.append(overlaps.max(1))
        others = np.concatenate(nearest)
        others = others[others >= 0]
        limit = float(np.quantile(others, 1 - share, method="higher")) if len(others) else 1.0
        return cls(flat, limit)

    def nearest(self, masks: Sequence[Mask]) -> NDArray[np.float32]:
        """Return the overlap (intersection over union, 0 to 1) of each mask with the most alike training mask."""
        return _overlaps(np.stack([silhouette(mask) for mask in masks]), self.silhouettes).max(1)


def _overlaps(rows: NDArray[np.bool_], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the best intersection over union [N, M] of silhouettes [N, SIDE, SIDE] with others, over symmetries."""
    best = np.zeros((len(rows), len(others)), np.float32)
    areas = others.sum(1)
    for turned in (rows, rows.transpose(0, 2, 1)):
        for down, right in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            flat = turned[:, ::down, ::right].reshape(len(rows), -1).astype(np.float32)
            shared = flat @ others.T
            union = flat.sum(1)[:, None] + areas[None, :] - shared
            best = np.maximum(best, shared / np.maximum(union, 1))
    return best
