"""Distances between the borders of two masks: normalised surface distance and the 95th percentile of Hausdorff.

A mask's border is its pixels that have, next to them along an axis, a pixel outside the mask or the edge of the image.
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
class BorderScores:
    """Agreement of two borders."""

    nsd: float  # fraction of border pixels of both masks that lie within the tolerance of the other border
    hd95: float  # the larger of the two 95th percentiles, in pixels or in the unit of the spacing


def border_scores(
    predicted: Mask, true: Mask, tolerance: float, spacing: tuple[float, float] = (1.0, 1.0)
) -> BorderScores:
    """Return NSD and HD95 of masks [H, W].

    `tolerance` is a fraction of the diagonal, `spacing` a pixel's height and width. Both masks empty: 1 and 0. One of
    them empty: 0 and the diagonal, which no distance within the image exceeds, so that means stay finite.
    """
    longest = diagonal(predicted.shape, spacing)
    if not (predicted.any() and true.any()):
        return BorderScores(0.0, longest) if predicted.any() or true.any() else BorderScores(1.0, 0.0)
    both_ways = border_distances(predicted, true, spacing)
    return BorderScores(surface_dice(both_ways, tolerance * longest), hausdorff(both_ways))


def border_distances(predicted: Mask, true: Mask, spacing: Sequence[float]) -> tuple[Distances, Distances]:
    """Return the distance of each border pixel of one mask [*spatial] to the other's border, both ways.

    Neither mask may be empty.
    """
    box = bounding_box(predicted | true)
    one, other = border(predicted[box]), border(true[box])
    return _nearest(one, other, spacing), _nearest(other, one, spacing)


def surface_dice(both_ways: tuple[Distances, Distances], tolerance: float) -> float:
    """Return NSD: the fraction of the distances of both ways that are at most `tolerance`."""
    return sum(int((way <= tolerance).sum()) for way in both_ways) / sum(map(len, both_ways))


def hausdorff(both_ways: tuple[Distances, Distances], percentile: float = 95) -> float:
    """Return the larger of the percentiles of the two ways."""
    return max(float(np.percentile(way, percentile)) for way in both_ways)


def border(mask: Mask) -> Mask:
    """Return the border pixels of a mask [*spatial]."""
    padded, inside = np.pad(mask, 1), mask.copy()
    for axis, length in enumerate(mask.shape):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + length)
            inside &= padded[tuple(window)]
    return mask & ~inside


def bounding_box(mask: Mask) -> tuple[slice, ...]:
    """Return the smallest box around a mask that is not empty; nothing outside it changes a border or a distance."""
    axes = range(mask.ndim)
    indices = [np.flatnonzero(mask.any(tuple(other for other in axes if other != axis))) for axis in axes]
    return tuple(slice(int(index[0]), int(index[-1]) + 1) for index in indices)


def diagonal(shape: Sequence[int], spacing: Sequence[float] = (1.0, 1.0)) -> float:
    """Return the length of the diagonal of an image [*spatial]."""
    return hypot(*(length * side for length, side in zip(shape, spacing, strict=True)))


def _nearest(border_of: Mask, other: Mask, spacing: Sequence[float]) -> Distances:
    """Return the distance of each pixel of one border to the nearest of the other."""
    nearest = np.asarray(distance_transform_edt(~other, sampling=spacing))
    return nearest[border_of]
