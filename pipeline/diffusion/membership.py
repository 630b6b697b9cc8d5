"""Membership-inference scores of a diffusion model: numbers that tend to be larger for images that it was trained on.

All are computed from the noise that the network sees, whatever it predicts. Distances are means over the elements of a
sample where the papers have sums, which is a constant factor for images of one size. Timesteps are those of a schedule
of STEPS; they are scaled to a schedule of another length.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.diffusion.schedule import Schedule

STEPS = 1000  # of the schedule in which timesteps are given
FIRST = 20  # where a model of clean samples starts; the noise that it implies is its error divided by a number near 0
STRIDE, LAST = 10, 90  # of SecMI


@dataclass(frozen=True)
class Denoiser:
    """A diffusion model under fixed conditions, and the B clean samples that it is asked about."""

    schedule: Schedule
    clean: Tensor  # [B, C, h, w] latents, or pixels of a model without latents
    predict: Callable[[Tensor, int], Tensor]  # noisy samples [B, C, h, w] and their timestep -> the network's output
    residual: Callable[[], Tensor] | None = None  # what the autoencoder changes [B, 3, H, W]; None: there is none

    @property
    def first(self) -> int:
        """The timestep, of STEPS, at which the network is shown samples without noise."""
        return FIRST if self.schedule.prediction == "sample" else 0

    def noise(self, noisy: Tensor, timestep: int) -> Tensor:
        """Return the noise [B, C, h, w] that the network sees in samples at a timestep of STEPS."""
        scaled = self._scaled(timestep)
        return self.schedule.predict_noise(self.predict(noisy, scaled), noisy, self._times(scaled))

    def noised(self, noise: Tensor, timestep: int) -> Tensor:
        """Add noise [B, C, h, w], or the same noise [C, h, w] for all, to the clean samples."""
        return self.schedule.q_sample(self.clean, noise, self._times(self._scaled(timestep)))

    def step(self, samples: Tensor, start: int, end: int) -> Tensor:
        """Move samples between timesteps, up or down, by one step of DDIM with eta 0 (Song et al. 2021, eq. 12)."""
        scaled = self._scaled(start)
        predicted, times = self.predict(samples, scaled), self._times(scaled)
        clean = self.schedule.predict_x0(predicted, samples, times)
        noise = self.schedule.predict_noise(predicted, samples, times)
        return self.schedule.q_sample(clean, noise, self._times(self._scaled(end)))

    def _scaled(self, timestep: int) -> int:
        return timestep * len(self.schedule) // STEPS

    def _times(self, timestep: int) -> Tensor:
        return torch.full((len(self.clean),), timestep, device=self.clean.device)


@torch.no_grad()
def loss(denoiser: Denoiser, noises: Tensor, timesteps: Sequence[int]) -> Tensor:
    """Return [B]: -mean |eps - eps^|^2 over noises [N, C, h, w], the same for all images, and timesteps.

    Members have a smaller loss (Yeom et al. 2018; for diffusion models Matsumoto et al. 2023).
    """
    errors = [
        _mean((noise - denoiser.noise(denoiser.noised(noise, timestep), timestep)) ** 2)
        for timestep in timesteps
        for noise in noises
    ]
    return -torch.stack(errors).mean(0)


@torch.no_grad()
def pia(denoiser: Denoiser, timesteps: Sequence[int], normalised: bool = False) -> Tensor:
    """Return [B]: -mean |e0 - eps^(sqrt(abar_t) z0 + sqrt(1 - abar_t) e0, t)|^4 over timesteps, with e0 = eps^(z0, 0).

    The proximal-initialisation attack (Kong et al. 2023, arXiv 2305.18355), which draws no noise. `normalised` is its
    variant PIAN, where e0 is scaled to the mean absolute value of normal noise.
    """
    first = denoiser.noise(denoiser.clean, denoiser.first)
    if normalised:
        first = first * (2 / torch.pi) ** 0.5 / first.abs().mean((1, 2, 3), keepdim=True)
    errors = [_mean((first - denoiser.noise(denoiser.noised(first, t), t)) ** 4) for t in timesteps]
    return -torch.stack(errors).mean(0)


@torch.no_grad()
def secmi(denoiser: Denoiser) -> Tensor:
    """Return [B]: -mean |x - x'|^2, x the samples moved to timestep LAST by DDIM, x' moved a step further and back.

    The attack SecMI-stat (Duan et al., ICML 2023). A model of clean samples starts at FIRST instead of 0.
    """
    moved = denoiser.clean
    for start in range(denoiser.first, LAST, STRIDE):
        moved = denoiser.step(moved, start, start + STRIDE)
    back = denoiser.step(denoiser.step(moved, LAST, LAST + STRIDE), LAST + STRIDE, LAST)
    return -_mean((moved - back) ** 2)


@torch.no_grad()
def autoencoder(denoiser: Denoiser) -> Tensor:
    """Return [B]: minus the mean squared error of the autoencoder. Raises ValueError where the model has none."""
    if denoiser.residual is None:
        raise ValueError("a model of pixels has no autoencoder")
    return -_mean(denoiser.residual() ** 2)


def _mean(values: Tensor) -> Tensor:
    """Return the mean of each sample [B], in float64."""
    return values.double().flatten(1).mean(1)
