"""Distances between the borders of two masks: normalised surface distance and the 95th percentile of Hausdorff.

A mask's border is its own pixels that have a pixel outside the mask, or the image's edge, beside them along an axis.
Distances go from the centre of each border pixel to the nearest border pixel of the other mask. MONAI defines both so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

Mask = NDArray[np.bool_]
Distances = NDArray[np.float64]


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
    ways = distances(found, true, spacing)
    return Agreement(near(ways, tolerance * longest), hausdorff(ways))


def distances(found: Mask, true: Mask, spacing: Sequence[float]) -> tuple[Distances, Distances]:
    """Of each border pixel of one mask [*spatial] to the other's border, both ways; neither mask is empty."""
    around = bounds(found | true)
    one, other = border(found[around]), border(true[around])
    return _nearest(one, other, spacing), _nearest(other, one, spacing)


def near(ways: tuple[Distances, Distances], limit: float) -> float:
    """NSD: share of the distances of both ways that are at most `limit`."""
    return sum(int((way <= limit).sum()) for way in ways) / sum(map(len, ways))


def hausdorff(ways: tuple[Distances, Distances], percentile: float = 95) -> float:
    """The larger of the percentiles of the two ways."""
    return max(float(np.percentile(way, percentile)) for way in ways)


def border(mask: Mask) -> Mask:
    """The border pixels of a mask [*spatial]."""
    padded, inside = np.pad(mask, 1), mask.copy()
    for axis, length in enumerate(mask.shape):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + length)
            inside &= padded[tuple(window)]
    return mask & ~inside


def bounds(mask: Mask) -> tuple[slice, ...]:
    """The smallest box around a mask that is not empty; nothing outside it can change a border or a distance."""
    axes = range(mask.ndim)
    places = [np.flatnonzero(mask.any(tuple(other for other in axes if other != axis))) for axis in axes]
    return tuple(slice(int(place[0]), int(place[-1]) + 1) for place in places)


def diagonal(shape: Sequence[int], spacing: Sequence[float] = (1.0, 1.0)) -> float:
    """Length of the diagonal of an image [*spatial]."""
    return hypot(*(length * side for length, side in zip(shape, spacing, strict=True)))


def _nearest(border_of: Mask, other: Mask, spacing: Sequence[float]) -> Distances:
    """Distance of each pixel of one border to the nearest of the other."""
    nearest = np.asarray(distance_transform_edt(~other, sampling=spacing))
    return nearest[border_of]
