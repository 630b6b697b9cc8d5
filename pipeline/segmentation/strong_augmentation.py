"""Strong random augmentation of two-dimensional pairs: the changes, strengths and probabilities of nnU-Net v2.

Isensee et al. (2021), "nnU-Net", as its version 2 trains two-dimensional networks; re-implemented on torch. Two things
differ: noise is in units of the image's standard deviation, for images here are in [0, 1] and not standardised, and
elastic deformation, which version 2 leaves off, has the probability of version 1. Mirroring is left to the segmenter's
own augmentation, which comes first.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.data.loading import Augment
from pipeline.data.sample import DatasetSpec

Channelwise = Callable[[Tensor, np.random.Generator], Tensor]  # [H, W] -> [H, W]
ROTATION, SCALE, ELASTIC = 0.2, 0.2, 0.2  # probabilities
SCALES = (0.7, 1.4)
ELASTIC_SIGMA, ELASTIC_SHIFT = (0.05, 0.15), (0.01, 0.04)  # smoothness and largest shift, shares of the longer side
NOISE, BLUR, BRIGHTNESS, CONTRAST, LOW_RESOLUTION, GAMMA, INVERTED_GAMMA = 0.1, 0.2, 0.15, 0.15, 0.25, 0.3, 0.1
EVERY_OTHER = 0.5  # probability with which blur and low resolution change a channel of a chosen image


def check(spec: DatasetSpec) -> None:
    """Raise UserError for volumes."""
    if spec.ndim != 2:
        raise UserError(
            f"augment: strong works on images of two dimensions, and {spec.name} has {spec.ndim}; use augment: own"
        )


def after(own: Augment | None) -> Augment:
    """Return the segmenter's own augmentation followed by the strong one, both drawn from the sample's stream."""

    def both(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        return strong(*(own(image, mask, rng) if own else (image, mask)), rng)

    return both


def strong(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Change an image [C, H, W] in [0, 1] and its label map [H, W] together in shape, then the image in its colours."""
    image, mask = deform(image, mask, rng)
    if rng.random() < NOISE:
        spread = math.sqrt(rng.uniform(0, 0.1)) * float(image.std())
        image = image + spread * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))
    for probability, change, per_channel in (
        (BLUR, _blur, EVERY_OTHER),
        (BRIGHTNESS, _brightness, 1.0),
        (CONTRAST, _contrast, 1.0),
        (LOW_RESOLUTION, _low_resolution, EVERY_OTHER),
        (INVERTED_GAMMA, _inverted_gamma, 1.0),
        (GAMMA, _gamma, 1.0),
    ):
        if rng.random() < probability:
            image = torch.stack([change(one, rng) if rng.random() < per_channel else one for one in image])
    return image.clamp(0, 1), mask


def deform(image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Rotate, scale and bend a pair, each or none; the image linearly, labels by the nearest pixel, 0 outside."""
    height, width = mask.shape
    turned, scaled, bent = rng.random() < ROTATION, rng.random() < SCALE, rng.random() < ELASTIC
    if not (turned or scaled or bent):
        return image, mask
    angle = rng.uniform(-math.pi, math.pi) if turned else 0.0
    factor = _factor(rng, *SCALES) if scaled else 1.0
    rows, columns = (torch.arange(side) - (side - 1) / 2 for side in (height, width))
    down, right = torch.meshgrid(rows, columns, indexing="ij")
    if bent:
        shifts = _elastic_shifts(height, width, rng)
        down, right = down + shifts[0], right + shifts[1]
    cosine, sine = math.cos(angle) / factor, math.sin(angle) / factor
    place = torch.stack([(cosine * right + sine * down) * 2 / width, (cosine * down - sine * right) * 2 / height], -1)
    grid = place[None].float()
    moved = F.grid_sample(image[None], grid, align_corners=False)[0]
    labels = F.grid_sample(mask[None, None].float(), grid, mode="nearest", align_corners=False)[0, 0]
    return moved, labels.round().to(mask.dtype)


def _elastic_shifts(height: int, width: int, rng: np.random.Generator) -> Tensor:
    """Return smooth random shifts [2, H, W] in pixels."""
    side = max(height, width)
    sigma, largest = rng.uniform(*ELASTIC_SIGMA) * side, rng.uniform(*ELASTIC_SHIFT) * side
    noise = torch.from_numpy(rng.uniform(-1, 1, (2, height, width)).astype(np.float32))
    smooth = torch.stack([_smoothed(one, sigma) for one in noise])
    return smooth / smooth.abs().amax().clamp(min=1e-6) * largest


def _smoothed(channel: Tensor, sigma: float) -> Tensor:
    """Return a channel [H, W] convolved with a Gaussian, its border repeated."""
    radius = max(1, math.ceil(3 * sigma))
    weights = torch.exp(-(torch.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    weights = weights / weights.sum()
    wide = F.pad(channel[None, None], (radius, radius, radius, radius), mode="replicate")
    return F.conv2d(F.conv2d(wide, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))[0, 0]


def _factor(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw from below 1 or from above 1, each equally often, then uniformly between there and 1."""
    return rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high)


def _blur(channel: Tensor, rng: np.random.Generator) -> Tensor:
    return _smoothed(channel, rng.uniform(0.5, 1.0))


def _brightness(channel: Tensor, rng: np.random.Generator) -> Tensor:
    return channel * _factor(rng, 0.75, 1.25)


def _contrast(channel: Tensor, rng: np.random.Generator) -> Tensor:
    """Stretch or compress values around their mean, within the range that they had."""
    mean, low, high = channel.mean(), channel.amin(), channel.amax()
    return ((channel - mean) * _factor(rng, 0.75, 1.25) + mean).clamp(low, high)


def _low_resolution(channel: Tensor, rng: np.random.Generator) -> Tensor:
    """Keep the nearest pixels of a coarser grid, then enlarge it with cubic splines."""
    sides = [max(1, round(side * rng.uniform(0.5, 1.0))) for side in channel.shape]
    coarse = F.interpolate(channel[None, None], size=sides, mode="nearest-exact")
    return F.interpolate(coarse, size=list(channel.shape), mode="bicubic", align_corners=False)[0, 0]


def _inverted_gamma(channel: Tensor, rng: np.random.Generator) -> Tensor:
    return 1 - _gamma(1 - channel, rng)


def _gamma(channel: Tensor, rng: np.random.Generator) -> Tensor:
    """Raise values, scaled to [0, 1], to a power; mean and standard deviation are restored."""
    low, span = channel.amin(), (channel.amax() - channel.amin()).clamp(min=1e-6)
    raised = ((channel - low) / span) ** _factor(rng, 0.7, 1.5)
    mean, deviation = channel.mean(), channel.std()
    return (raised - raised.mean()) / raised.std().clamp(min=1e-6) * deviation + mean
