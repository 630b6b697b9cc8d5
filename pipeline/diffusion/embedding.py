"""Two sinusoidal embeddings of time: of the timestep's index, and of the fraction of the process."""

import math

import torch
from torch import Tensor

PERIOD = 10_000


def index_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Timesteps [B] -> [B, width]: sines, then cosines, of frequencies 1 to 1/10000 (DermoSegDiff)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=timesteps.device) * (-math.log(PERIOD) / (half - 1)))
    angles = timesteps.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def fraction_embedding(fractions: Tensor, width: int) -> Tensor:
    """Fractions [B] in (0, 1] -> [B, width]: cosines, then sines, of 10000 times them, 1/10000 excluded (ImgX-DiffSeg).

    Of t / 10000 it is the embedding of guided diffusion.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=fractions.device) * (-math.log(PERIOD) / half))
    angles = (fractions.float() * PERIOD)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)
