"""Measurements of the lesions of training masks (area, centre, aspect, tilt), and random lesions drawn from them.

Lengths are shares of the image's side, areas of the image, angles radians, points (down, right).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from pipeline.methods.masks._bounds import Mask, lesions

SLIMMEST = 0.1  # width to length of an ellipse
PIXEL = 1 / 12  # variance of a pixel's extent, so that a line of pixels has a width


@dataclass(frozen=True)
class Lesion:
    """A connected region, as the ellipse with its second moments."""

    label: int
    area: float  # with its holes filled: what lies inside is painted on top
    centre: tuple[float, float]
    aspect: float  # width to length, in (0, 1]
    tilt: float  # of the long axis against "right", towards "down"
    cut: bool  # it reaches the frame

    @property
    def vector(self) -> list[float]:
        """The numbers that a kernel density smooths."""
        return [math.log(self.area), *self.centre, math.log(self.aspect)]


def measure_lesions(mask: Mask) -> list[Lesion]:
    """Measure the lesions of a label map [H, W], one per connected region, without specks."""
    regions, number = lesions(mask)
    return [fitted_ellipse(int(mask[regions == n][0]), regions == n) for n in range(1, number + 1)]


def fitted_ellipse(label: int, region: NDArray[np.bool_]) -> Lesion:
    """Return the ellipse with the second moments of a region [H, W] of at least one pixel, its holes filled."""
    filled = np.asarray(ndimage.binary_fill_holes(region))
    side, pixels = len(region), np.argwhere(filled)
    middle = pixels.mean(0)
    moments = np.cov(pixels.T, ddof=0) if len(pixels) > 1 else np.zeros((2, 2))
    (short, long), axes = np.linalg.eigh(moments + PIXEL * np.eye(2))
    down, right = axes[:, 1]
    aspect = max(math.sqrt(short / long), SLIMMEST)
    cut = bool(pixels.min() == 0 or pixels.max() == side - 1)
    centre = ((middle[0] + 0.5) / side, (middle[1] + 0.5) / side)
    return Lesion(label, len(pixels) / side**2, centre, aspect, math.atan2(down, right), cut)


@dataclass(frozen=True)
class Spread:
    """Spread of the lesions of one label."""

    deviations: NDArray[np.float64]  # [4] standard deviations of log area, centre and log aspect
    areas: tuple[float, float]  # smallest and largest


def measure_spreads(measured: Sequence[Lesion]) -> dict[int, Spread]:
    """Compute the spread of each label over all its lesions."""
    return {label: _spread([m for m in measured if m.label == label]) for label in sorted({m.label for m in measured})}


def _spread(same: Sequence[Lesion]) -> Spread:
    sizes = [lesion.area for lesion in same]
    return Spread(np.std([lesion.vector for lesion in same], axis=0), (min(sizes), max(sizes)))


def resample_lesion(lesion: Lesion, spread: Spread, bandwidth: float, rng: np.random.Generator) -> Lesion:
    """Draw from a Gaussian kernel about one lesion, of `bandwidth` standard deviations in each number.

    Areas stay between the smallest and the largest of the label.
    """
    jitter = bandwidth * rng.standard_normal(5)
    log_area, down, right, log_aspect = np.array(lesion.vector) + jitter[:4] * spread.deviations
    area, aspect = _clipped(math.exp(log_area), *spread.areas), _clipped(math.exp(log_aspect), SLIMMEST, 1.0)
    centre = (_clipped(down, 0.0, 1.0), _clipped(right, 0.0, 1.0))
    return replace(lesion, area=area, centre=centre, aspect=aspect, tilt=round(lesion.tilt + float(jitter[4]), 6))


def visible_shares(mask: Mask, measured: Sequence[Lesion]) -> dict[int, float]:
    """Return per label the share of the lesions' areas that a label map shows; less where others cover them."""
    areas: dict[int, float] = {}
    for lesion in measured:
        areas[lesion.label] = areas.get(lesion.label, 0.0) + lesion.area
    return {label: float((mask == label).mean()) / area for label, area in areas.items()}


def _clipped(value: float, low: float, high: float) -> float:
    """Clip a number and round it as it is recorded, before it is used."""
    return round(min(max(float(value), low), high), 6)
