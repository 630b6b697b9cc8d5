"""Holes: the part of a real image that is drawn anew around a lesion, and how it is blended into what is kept."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Region = NDArray[np.bool_]  # [H, W]
LEAST = 2  # pixels of a margin


def margin_pixels(margin: float, size: int) -> float:
    """Return the width in pixels of a margin that is a share of the image's side: two pixels or more."""
    return max(LEAST, margin * size)


def dilated(region: Region, distance: float) -> Region:
    """Return all pixels of an image that are at most `distance` pixels away from a region; none if it is empty."""
    if not region.any():
        return np.zeros_like(region)
    return np.asarray(ndimage.distance_transform_edt(~region), np.float64) <= distance


def hole_of(lesion: Region, margin: float) -> Region:
    """Return a lesion with its margin, a share of the image's side."""
    return dilated(lesion, margin_pixels(margin, len(lesion)))


def drawn_share(lesion: Region, margin: float, feather: float) -> NDArray[np.float32]:
    """Return the share in [0, 1] of the drawn image in every pixel: 1 in the lesion, 0 outside its hole.

    Between them it falls as the lesion with half of its margin does under a Gaussian of standard deviation `feather`,
    a share of the image's side.
    """
    size = len(lesion)
    inner = dilated(lesion, margin_pixels(margin, size) / 2).astype(np.float32)
    share = np.asarray(ndimage.gaussian_filter(inner, feather * size), np.float32).clip(0, 1)
    share[lesion] = 1
    share[~hole_of(lesion, margin)] = 0
    return share
