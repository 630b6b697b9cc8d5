"""Histograms of oriented gradients (Dalal & Triggs 2005) of the grey image: where edges are and how they run.

Unlike features of a network they know no objects, so that two images are near only if their edges are in the same
places. 7 x 7 overlapping blocks of 2 x 2 cells, 9 unsigned directions: 1764 numbers.
"""

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

OUTPUT = "rows"
WEIGHTS = None
SIDE, CELLS, DIRECTIONS = 64, 8, 9
FAINT = 0.02  # length added to the norm of a block: the gradients of a uniform area are noise


class GradientHistograms:
    """One row of block-normalised histograms per image (contracts.Embedder)."""

    id = f"gradient_histograms-{SIDE}-{CELLS}x{CELLS}x{DIRECTIONS}-1"

    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Return features [B, 1764] of [B, 3, H, W] uint8, on the device of the images."""
        votes = gradient_votes(grey(images))
        cells = F.avg_pool2d(votes, SIDE // CELLS)
        blocks = F.unfold(cells, 2).transpose(1, 2)  # [B, 49, 4 DIRECTIONS]
        return (blocks / (blocks.norm(dim=2, keepdim=True) + FAINT)).flatten(1).cpu().numpy()


def grey(images: Tensor) -> Tensor:
    """Return luma [B, 1, SIDE, SIDE] in [0, 1] of [B, 3, H, W] uint8, antialiased."""
    luma = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
    level = (images.float() / 255 * luma).sum(1, keepdim=True)
    return F.interpolate(level, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)


def gradient_votes(level: Tensor) -> Tensor:
    """Return gradient lengths [B, DIRECTIONS, S, S] of [B, 1, S, S], each shared by the two nearest directions."""
    wide = F.pad(level, (1, 1, 1, 1), mode="replicate")
    right, down = wide[:, :, 1:-1, 2:] - wide[:, :, 1:-1, :-2], wide[:, :, 2:, 1:-1] - wide[:, :, :-2, 1:-1]
    angle = torch.atan2(down, right) / math.pi * DIRECTIONS  # opposite gradients are DIRECTIONS apart
    bins = torch.arange(DIRECTIONS, device=level.device).view(1, -1, 1, 1)
    gap = (angle - bins).remainder(DIRECTIONS)
    near = (1 - torch.minimum(gap, DIRECTIONS - gap)).clamp(min=0)
    return near * torch.hypot(right, down)


def build(file: Path | None = None) -> GradientHistograms:
    """Build the extractor; it takes no file."""
    return GradientHistograms()
