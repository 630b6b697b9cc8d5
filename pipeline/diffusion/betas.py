"""Noise schedules of diffusion models trained from nothing: betas [T], in float64."""

import math

import torch
from torch import Tensor


def linear(steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return equal steps from the first beta to the last (Ho et al. 2020)."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def quadratic(steps: int, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return equal steps in the square roots ("scaled linear" of latent diffusion)."""
    return torch.linspace(math.sqrt(first), math.sqrt(last), steps, dtype=torch.float64) ** 2


def cosine(steps: int, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """Return the cosine schedule, betas clipped (Nichol & Dhariwal 2021, eq. 17).

    abar_t = f(t) / f(0), f(t) = cos^2(pi/2 (t/T + s) / (1 + s)).
    """
    at = torch.arange(steps + 1, dtype=torch.float64) / steps
    falling = torch.cos((at + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - falling[1:] / falling[:-1]).clamp(max=largest)


def input_scaled(betas: Tensor, scale: float) -> Tensor:
    """Return the betas of clean samples times `scale` whose noisy ones are brought back to unit variance (Chen 2023).

    abar / (1 - abar), the signal-to-noise ratio, is scale^2 times as large: below 1, more noise at every timestep.
    """
    kept = torch.cumprod(1 - betas.double(), 0)
    ratio = scale**2 * kept / (1 - kept)
    kept = ratio / (1 + ratio)
    return 1 - kept / torch.cat([torch.ones_like(kept[:1]), kept[:-1]])
