"""Noise schedule of a base model and its closed forms, for noise, velocity and image prediction."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """Cumulative products abar_t and what the network predicts: epsilon, v_prediction or sample (x0)."""

    alphas_cumprod: Tensor  # [T]
    prediction: str = "epsilon"
    copies: dict[tuple[torch.device, torch.dtype], Tensor] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def products(self, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return abar [T] on a device in a precision, copied once: a copy makes the host wait for the device."""
        if (device, dtype) not in self.copies:
            self.copies[device, dtype] = self.alphas_cumprod.to(device, dtype)
        return self.copies[device, dtype]

    def q_sample(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return sqrt(abar_t) x0 + sqrt(1 - abar_t) noise (Ho et al. 2020, eq. 4)."""
        signal, sigma = self._weights(timesteps, x0)
        return signal * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return the network's target; velocity is sqrt(abar) noise - sqrt(1 - abar) x0 (Salimans & Ho 2022)."""
        if self.prediction == "epsilon":
            return noise
        if self.prediction == "sample":
            return x0
        signal, sigma = self._weights(timesteps, x0)
        return signal * noise - sigma * x0

    def predict_x0(self, predicted: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Return the clean latents that a prediction implies."""
        signal, sigma = self._weights(timesteps, noisy)
        if self.prediction == "epsilon":
            return (noisy - sigma * predicted) / signal
        if self.prediction == "sample":
            return predicted
        return signal * noisy - sigma * predicted

    def predict_noise(self, predicted: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Return the noise that a prediction implies, (noisy - sqrt(abar) x0) / sqrt(1 - abar)."""
        if self.prediction == "epsilon":
            return predicted
        signal, sigma = self._weights(timesteps, noisy)
        return (noisy - signal * self.predict_x0(predicted, noisy, timesteps)) / sigma

    def prediction_of(self, x0: Tensor, noisy: Tensor, timesteps: Tensor) -> Tensor:
        """Return the prediction that implies these clean latents; the inverse of `predict_x0`."""
        if self.prediction == "sample":
            return x0
        signal, sigma = self._weights(timesteps, noisy)
        noise = (noisy - signal * x0) / sigma
        return noise if self.prediction == "epsilon" else signal * noise - sigma * x0

    def _weights(self, timesteps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        alphas = self.products(like.device, like.dtype)[timesteps].view(-1, *[1] * (like.ndim - 1))
        return alphas.sqrt(), (1 - alphas).sqrt()


def noise_of(streams: Sequence[torch.Generator], shape: tuple[int, ...]) -> Tensor:
    """Draw standard normal noise [B, *shape] on the CPU, from one random stream per sample."""
    return torch.stack([torch.randn(shape, generator=stream) for stream in streams])


def at_least_float32(predicted: Tensor) -> Tensor:
    """Cast to float32 what autocast computed in half precision, so that losses are exact."""
    return predicted.float() if predicted.dtype in (torch.bfloat16, torch.float16) else predicted
