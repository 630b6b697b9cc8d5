"""Distances between the borders of two masks: normalised surface distance and the 95th percentile of Hausdorff.

A mask's border is its own pixels that have a pixel outside the mask, or the image's edge, above, below, left or right.
Distances go from the centre of each border pixel to the nearest border pixel of the other mask. MONAI defines both so.
"""

from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Agreement:
    """How well two borders agree."""

    nsd: float  # share of border pixels of both masks that lie within the tolerance of the other border
    hd95: float  # the larger of the two 95th percentiles, in pixels or in the unit of the spacing


def agreement(found: Mask, true: Mask, tolerance: float, spacing: tuple[float, float] = (1.0, 1.0)) -> Agreement:
    """NSD and HD95 of masks [H, W]; `tolerance` is a share of the diagonal, `spacing` a pixel's height and width.

    Both masks empty: 1 and 0 (nothing there, nothing found). One of them empty: 0 and the diagonal, which no distance
    within the image exceeds, so that means stay finite.
    """
    longest = diagonal(found.shape, spacing)
    if not (found.any() and true.any()):
        return Agreement(0.0, longest) if found.any() or true.any() else Agreement(1.0, 0.0)
    around = bounds(found | true)
    one, other = border(found[around]), border(true[around])
    ways = _nearest(one, other, spacing), _nearest(other, one, spacing)
    near = sum(int((way <= tolerance * longest).sum()) for way in ways)
    return Agreement(near / sum(map(len, ways)), max(float(np.percentile(way, 95)) for way in ways))


def border(mask: Mask) -> Mask:
    """The border pixels of a mask [H, W]."""
    padded = np.pad(mask, 1)
    return mask & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])


def bounds(mask: Mask) -> tuple[slice, slice]:
    """The smallest rectangle around a mask that is not empty; nothing outside it can change a border or a distance."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def diagonal(shape: tuple[int, ...], spacing: tuple[float, float] = (1.0, 1.0)) -> float:
    """Length of the diagonal of an image [H, W]."""
    return hypot(shape[0] * spacing[0], shape[1] * spacing[1])


def _nearest(border_of: Mask, other: Mask, spacing: tuple[float, float]) -> NDArray[np.float64]:
    """Distance of each pixel of one border to the nearest of the other."""
    distances = np.asarray(distance_transform_edt(~other, sampling=spacing))
    return distances[border_of]
