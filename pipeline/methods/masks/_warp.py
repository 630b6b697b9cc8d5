"""Where each pixel of a transformed mask is looked up in its source: the nearest pixel, so labels stay exact.

Beyond the frame the outermost pixels go on: what the frame cuts (an instrument, a large lesion) still reaches it.
Lengths are shares of the image's side, angles degrees, vectors (down, right).
"""

import math

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]
Lookup = NDArray[np.intp]  # [H, W] positions in the flattened source


def nearest(down: Field, right: Field) -> Lookup:
    """Return the positions of the pixels nearest to coordinates [H, W] in pixels, of a source of the same size."""
    height, width = down.shape
    row = np.clip(np.rint(down), 0, height - 1).astype(np.intp)
    return row * width + np.clip(np.rint(right), 0, width - 1).astype(np.intp)


def similarity(
    size: int, flips: tuple[bool, bool], scale: float, degrees: float, centre: Field, shift: Field
) -> Lookup:
    """Return the lookup that mirrors (up and down, left and right), then scales and turns about `centre`, then shifts.

    `centre` is that of the lesion in the source; it ends at its mirror image plus `shift`. Positive degrees turn from
    "right" towards "down".
    """
    down, right = np.indices((size, size), dtype=np.float64)
    middle = np.where(flips, 1 - centre, centre) * size - 0.5
    y, x = down - middle[0] - shift[0] * size, right - middle[1] - shift[1] * size
    cosine, sine = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    y, x = middle[0] + cosine * y - sine * x, middle[1] + cosine * x + sine * y
    return nearest(size - 1 - y if flips[0] else y, size - 1 - x if flips[1] else x)


def displacement(rng: np.random.Generator, size: int, sigma: float) -> Field:
    """Draw smooth random vectors [2, size, size] whose longest has length 1.

    White noise on a grid, smoothed by cubic B-splines of standard deviation `sigma` (free-form deformation, Rueckert
    et al. 1999); the field does not depend on the number of pixels.
    """
    spacing = sigma * math.sqrt(3)  # a cubic B-spline's variance is a third of its squared spacing
    weights = _splines(size, spacing)
    knots = rng.standard_normal((2, weights.shape[1], weights.shape[1]))
    field = weights @ knots @ weights.T
    return field / np.hypot(*field).max()


def folds(vectors: Field) -> bool:
    """Return whether p + vectors(p), in pixels [2, H, W], folds anywhere: no smooth lesion is left then."""
    (yy, yx), (xy, xx) = np.gradient(vectors[0]), np.gradient(vectors[1])
    return bool(((1 + yy) * (1 + xx) - yx * xy).min() <= 0)


def _splines(size: int, spacing: float) -> Field:
    """Return the weights [size, knots] of cubic B-splines at the pixels' centres."""
    position = (np.arange(size) + 0.5) / size / spacing
    first = np.floor(position).astype(int)
    t = position - first
    parts = [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]
    weights = np.zeros((size, first[-1] + 4))
    for k, part in enumerate(parts):
        weights[np.arange(size), first + k] = part / 6
    return weights
