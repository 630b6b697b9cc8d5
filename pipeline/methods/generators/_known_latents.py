"""Latents of real images that sampling keeps: known everywhere outside a hole, replaced in every step.

With one noise per image, replacing the predicted clean latents equals noising the known region again at every level
(RePaint, Lugmayr et al. 2022; Blended Latent Diffusion, Avrahami et al. 2023), for every sampler that reproduces a
constant prediction exactly: DDIM, DPM-Solver++ and UniPC. With an eta, DDIM noises the known region with new noise.
"""

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.core.contracts import RealImages
from pipeline.diffusion.schedule import Schedule, at_least_float32
from pipeline.networks.stable_diffusion.model import StableDiffusion


@dataclass(frozen=True)
class KnownLatents:
    """Clean latents of B real images, and where they are drawn anew."""

    latents: Tensor  # [B, C, h, w]
    holes: Tensor  # [B, 1, h, w] bool
    schedule: Schedule
    strength: float | None = None  # share of the steps that are run; None: all, from noise inside the holes

    @classmethod
    def of(cls, model: StableDiffusion, real: RealImages) -> Self:
        """Encode images by the mean of their posterior; holes grow by the cells they touch, and by one more."""
        device = model.unet.device
        moments = model.moments(torch.from_numpy(real.images).to(device).float() / 255)
        latents = model.latents(moments, torch.zeros_like(moments.chunk(2, dim=1)[0]))
        holes = latent_holes(torch.from_numpy(real.holes).to(device), model.factor)
        return cls(at_least_float32(latents), holes, model.schedule, real.strength)

    def skipped(self, steps: int) -> int:
        """Return how many of the first steps are left out."""
        return 0 if self.strength is None else steps - kept_steps(steps, self.strength)

    def start(self, noise: Tensor, timestep: int) -> Tensor:
        """Return the latents of the first step: the noised real ones; without a strength, noise in the holes."""
        noised = self.schedule.q_sample(self.latents.to(noise.dtype), noise, self._times(noise, timestep))
        return torch.where(self.holes, noise, noised) if self.strength is None else noised

    def replace(self, predicted: Tensor, noisy: Tensor, timestep: int) -> Tensor:
        """Replace a prediction outside the holes by the one that implies the real latents."""
        real = self.schedule.prediction_of(self.latents.to(noisy.dtype), noisy, self._times(noisy, timestep))
        return torch.where(self.holes, predicted, real)

    def finish(self, latents: Tensor) -> Tensor:
        """Set the latents outside the holes to the real ones: the last step of DDIM leaves a little noise."""
        return torch.where(self.holes, latents, self.latents.to(latents.dtype))

    def _times(self, like: Tensor, timestep: int) -> Tensor:
        return torch.full((len(like),), timestep, device=like.device)


def kept_steps(steps: int, strength: float) -> int:
    """Return how many of the sampling steps a strength in (0, 1] runs: its share, rounded down (as diffusers does)."""
    return math.floor(steps * strength + 1e-9)


def latent_holes(holes: Tensor, factor: int) -> Tensor:
    """Return the cells [B, 1, h, w] that a hole [B, H, W] touches, and their neighbours."""
    touched = F.max_pool2d(holes.float()[:, None], factor)
    return F.max_pool2d(touched, 3, stride=1, padding=1) > 0


def blend(drawn: Tensor, real: RealImages) -> Tensor:
    """Return drawn images [B, 3, H, W] in [0, 1] with the real pixels outside the holes, mixed along their edges."""
    share = torch.from_numpy(real.shares).to(drawn)[:, None]
    pixels = torch.from_numpy(real.images).to(drawn.device).float() / 255
    return torch.where(share > 0, share * drawn + (1 - share) * pixels, pixels)
