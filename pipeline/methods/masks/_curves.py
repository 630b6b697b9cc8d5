"""Smooth random closed curves by Fourier descriptors of their logarithmic radius, and the regions inside them."""

import math

import numpy as np
from numpy.typing import NDArray

from pipeline.methods.masks._lesions import Lesion

Field = NDArray[np.float64]
ORDERS = np.arange(2, 7)  # waves around the outline; the first would only move it
CIRCLE = np.linspace(0, 2 * math.pi, 720, endpoint=False)  # angles from "right" towards "down"
FITS = 8  # corrections of the size of a region that the frame cuts
MARGIN = 1.5  # pixels between the frame and an outline that is clear of it: none of the outermost is inside


def waves(rng: np.random.Generator, roughness: float) -> Field:
    """Draw random descriptors [2, orders], cosines and sines; finer waves are weaker, so that the edge is smooth."""
    return np.round(roughness * rng.standard_normal((2, len(ORDERS))) / ORDERS**1.5, 6)


def outline(aspect: float, tilt: float, descriptors: Field) -> Field:
    """Return the distances [720] of a star-shaped edge from its centre along CIRCLE; the region inside has area 1.

    It is an ellipse (width to length, angle of the long axis) whose radius is multiplied by exp(the waves).
    """
    turned = CIRCLE - tilt
    phases = np.multiply.outer(ORDERS, turned)
    wavy = descriptors[0] @ np.cos(phases) + descriptors[1] @ np.sin(phases)
    radius = np.exp(wavy) / np.hypot(np.cos(turned), np.sin(turned) / aspect)
    return radius / math.sqrt(math.pi * (radius**2).mean())  # a star's area is half the integral of the square


def region(lesion: Lesion, descriptors: Field, size: int) -> NDArray[np.bool_]:
    """Rasterise a lesion with a wavy edge [size, size]; at least the pixel at its centre is inside.

    A lesion that the frame does not cut is moved (and made smaller where it must be) until it is clear of the frame;
    one that the frame cuts is made larger until the part in the image has the area asked for.
    """
    edge = math.sqrt(lesion.area) * outline(lesion.aspect, lesion.tilt, descriptors)
    centre = np.array(lesion.centre)
    if not lesion.cut:
        return _paint(*_inside(centre, edge, MARGIN / size), size)
    for _ in range(FITS):
        shown = _paint(centre, edge, size).mean()
        edge *= min(max(math.sqrt(lesion.area / shown), 0.5), 2.0)
    return _paint(centre, edge, size)


def _paint(centre: Field, edge: Field, size: int) -> NDArray[np.bool_]:
    line = (np.arange(size) + 0.5) / size
    down, right = line[:, None] - centre[0], line[None, :] - centre[1]
    pixels = np.hypot(down, right) < np.interp(np.arctan2(down, right), CIRCLE, edge, period=2 * math.pi)
    row, column = np.minimum((centre * size).astype(int), size - 1)
    pixels[row, column] = True
    return pixels


def _inside(centre: Field, edge: Field, margin: float) -> tuple[Field, Field]:
    """Move and shrink the curve until all of it keeps `margin` from the frame; return its centre and edge."""
    around = np.stack([np.sin(CIRCLE), np.cos(CIRCLE)])
    extent = np.ptp(edge * around, axis=1).max()
    edge = edge * min(1.0, (1 - 2 * margin) / extent)
    low, high = margin - (edge * around).min(1), 1 - margin - (edge * around).max(1)
    return np.clip(centre, low, np.maximum(low, high)), edge
