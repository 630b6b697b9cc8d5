"""Two sinusoidal embeddings of time: of the timestep's index, and of the fraction of the process."""

import math

import torch
from torch import Tensor

PERIOD = 10_000


def index_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Embed timesteps [B] as [B, width]: sines, then cosines, of frequencies 1 to 1/10000 (DermoSegDiff)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=timesteps.device) * (-math.log(PERIOD) / (half - 1)))
    angles = timesteps.float()[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def fraction_embedding(fractions: Tensor, width: int) -> Tensor:
    """Embed fractions [B] in (0, 1] as [B, width]: cosines, then sines, of 10000 times them (ImgX-DiffSeg).

    Frequencies fall from 1 to 1/10000, excluded. For t / 10000 this is the embedding of guided diffusion.
    """
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=fractions.device) * (-math.log(PERIOD) / half))
    angles = (fractions.float() * PERIOD)[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], 1)
