"""The five random changes that the paper on DermoSegDiff names: noise, shifted colours, an affine map, holes, flips.

The paper states neither limits nor probabilities; those here are of its public code, which has some twenty changes of
the package albumentations 1.3.1 and applies each to 5 % of one half of the samples. Bytes there are values in [0, 1]
here, and are not rounded after each change.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

CHANGED, EACH = 0.5, 0.05  # probability that a pair is changed at all, and then of each change
VARIANCE = (10.0, 200.0)  # of the noise, in squared grey levels of 255
SHIFT = 20.0  # largest shift of a channel, in grey levels of 255
SCALE, MOVE, ROTATION, SHEAR = 0.1, 0.1, 15.0, 10.0  # of an axis; share of the side; degrees; degrees along an axis
HOLES = (1, 5)  # fewest and most
HOLE_SIDES = (32, 8)  # an image's side, over the least and the largest side of a hole: 4 to 16 of 128 pixels
HOLE_COLOR = (10.0, 20.0, 60.0)  # in grey levels of 255


def five_changes(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Apply each change or none to an image [C, H, W] in [0, 1] and its label map [H, W]."""
    if rng.random() >= CHANGED:
        return image, mask
    for change in (add_noise, shift_channels, transform, cut_holes, flip):
        if rng.random() < EACH:
            image, mask = change(image, mask, rng)
    return image, mask


def add_noise(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Add Gaussian noise of one variance, drawn for each value on its own."""
    deviation = math.sqrt(rng.uniform(*VARIANCE)) / 255
    noise = torch.from_numpy(rng.standard_normal(image.shape)).to(image.dtype)
    return (image + deviation * noise).clamp(0, 1), mask


def shift_channels(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Add another number to each channel."""
    shifts = torch.from_numpy(rng.uniform(-SHIFT, SHIFT, len(image)) / 255).to(image.dtype)
    return (image + shifts[:, None, None]).clamp(0, 1), mask


def transform(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Shear, scale, rotate and move a pair about its centre: images linearly, labels by the nearest pixel, 0 around."""
    height, width = mask.shape
    linear, moved = _affine(rng)
    half = np.array([width, height]) / 2  # pixels per unit of affine_grid
    inverse = np.linalg.inv(linear)
    theta = np.concatenate([inverse * half / half[:, None], -(inverse @ (2 * moved * half) / half)[:, None]], 1)
    grid = F.affine_grid(torch.from_numpy(theta)[None].to(image.dtype), [1, 1, height, width], align_corners=False)
    turned = F.grid_sample(image[None], grid, align_corners=False)[0]
    labels = F.grid_sample(mask[None, None].to(image.dtype), grid, mode="nearest", align_corners=False)[0, 0]
    return turned, labels.round().to(mask.dtype)


def cut_holes(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Fill rectangles of the image with a dark blue (its mean where the image has no three channels)."""
    color = HOLE_COLOR if len(image) == 3 else (sum(HOLE_COLOR) / 3,) * len(image)
    fill = torch.tensor(color, dtype=image.dtype)[:, None, None] / 255
    image = image.clone()
    for _ in range(rng.integers(HOLES[0], HOLES[1] + 1)):
        (top, bottom), (left, right) = (_interval(side, rng) for side in mask.shape)
        image[:, top:bottom, left:right] = fill
    return image, mask


def flip(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Mirror a pair top to bottom, left to right or both, each equally often."""
    axes = ((-2,), (-1,), (-2, -1))[rng.integers(3)]
    return image.flip(axes), mask.flip(axes)


def _affine(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return the matrix [2, 2] of (x, y) about the centre, and the shift along both as shares of the sides."""
    shear_x, shear_y = np.deg2rad(rng.uniform(-SHEAR, SHEAR, 2))
    scale_x, scale_y = rng.uniform(1 - SCALE, 1 + SCALE, 2)
    angle = np.deg2rad(rng.uniform(-ROTATION, ROTATION))
    along_y = np.array([[math.cos(shear_y), 0], [math.sin(shear_y), 1]])
    rest = np.array(
        [
            [scale_x * math.cos(angle), -scale_y * math.sin(angle + shear_x)],
            [scale_x * math.sin(angle), scale_y * math.cos(angle + shear_x)],
        ]
    )
    return rest @ along_y, rng.uniform(-MOVE, MOVE, 2)


def _interval(side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Return where a hole begins and ends along a side of so many pixels."""
    least, most = (max(1, side // part) for part in HOLE_SIDES)
    length = int(rng.integers(least, most + 1))
    start = int(rng.integers(side - length + 1))
    return start, start + length
