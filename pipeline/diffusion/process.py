"""A diffusion process: the closed forms of a schedule, the same on fewer steps, and the steps of DDPM and DDIM.

Positions k count the kept noise levels, 0 the cleanest; `indices[k]` is the timestep of training that a network sees.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from pipeline.diffusion.prediction import Prediction
from pipeline.diffusion.schedule import Schedule

SCHEDULE_PREDICTION: dict[Prediction, str] = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}  # schedule's words


@dataclass(frozen=True)
class Process:
    """Noise levels of a process of `steps` training steps, or some of them."""

    alphas_cumprod: Tensor  # [K] float64, falling
    indices: Tensor  # [K] long: timesteps of training
    steps: int  # T of training
    prediction: Prediction = "x0"

    @classmethod
    def of(cls, betas: Tensor, prediction: Prediction = "x0") -> Self:
        """Build the full process of betas [T]."""
        return cls(torch.cumprod(1 - betas.double(), 0), torch.arange(len(betas)), len(betas), prediction)

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def respaced(self, kept: int | Tensor) -> Self:
        """Return the process on fewer steps: positions [K], or their number, spread evenly from the first to the last.

        abar is unchanged at every kept level; a single level is the last.
        """
        if isinstance(kept, int):
            if not 1 <= kept <= len(self):
                raise ValueError(f"a process of {len(self)} steps cannot be sampled in {kept}")
            last = len(self) - 1
            kept = torch.linspace(0 if kept > 1 else last, last, kept, dtype=torch.float64).round().long()
        return type(self)(self.alphas_cumprod[kept], self.indices[kept], self.steps, self.prediction)

    @cached_property
    def schedule(self) -> Schedule:
        """The closed forms."""
        return Schedule(self.alphas_cumprod, SCHEDULE_PREDICTION[self.prediction])

    @cached_property
    def previous(self) -> Tensor:
        """abar of the next cleaner level [K]; 1 for the cleanest."""
        return torch.cat([torch.ones_like(self.alphas_cumprod[:1]), self.alphas_cumprod[:-1]])

    @cached_property
    def betas(self) -> Tensor:
        """1 - abar_k / abar_(k-1) [K], of the kept levels, not of training."""
        return 1 - self.alphas_cumprod / self.previous

    @cached_property
    def posterior_variance(self) -> Tensor:
        """beta (1 - abar_(k-1)) / (1 - abar_k) [K]; 0 for the cleanest (Ho et al. 2020, eq. 7)."""
        return self.betas * (1 - self.previous) / (1 - self.alphas_cumprod)

    @cached_property
    def log_small(self) -> Tensor:
        """Logarithm of the posterior variance [K], where the cleanest level takes the next one's."""
        place = torch.arange(len(self)).clamp(min=min(1, len(self) - 1))
        return self.posterior_variance[place].log() if len(self) > 1 else self.betas.log()

    @cached_property
    def log_large(self) -> Tensor:
        """Logarithm of the betas [K], where the cleanest level takes the small variance."""
        return torch.cat([self.log_small[:1], self.betas[1:].log()])

    def q_sample(self, x0: Tensor, noise: Tensor, k: Tensor) -> Tensor:
        """Add noise to x0 up to levels k [B]."""
        return self.schedule.q_sample(x0, noise, k)

    def target(self, x0: Tensor, noise: Tensor, k: Tensor) -> Tensor:
        """Return what the network should predict."""
        return self.schedule.target(x0, noise, k)

    def predict_x0(self, predicted: Tensor, noisy: Tensor, k: Tensor) -> Tensor:
        """Return the clean sample that a prediction implies."""
        return self.schedule.predict_x0(predicted, noisy, k)

    def noise_of_x0(self, x0: Tensor, noisy: Tensor, k: Tensor) -> Tensor:
        """Return the noise that leads from x0 to the noisy sample."""
        signal, sigma = self._at(self.alphas_cumprod.sqrt(), k, x0), self._at((1 - self.alphas_cumprod).sqrt(), k, x0)
        return (noisy - signal * x0) / sigma

    def posterior_mean(self, x0: Tensor, noisy: Tensor, k: Tensor) -> Tensor:
        """Return the mean of q(x_(k-1) | x_k, x0) (Ho et al. 2020, eq. 7)."""
        clean = self.betas * self.previous.sqrt() / (1 - self.alphas_cumprod)
        kept = (1 - self.betas).sqrt() * (1 - self.previous) / (1 - self.alphas_cumprod)
        return self._at(clean, k, x0) * x0 + self._at(kept, k, x0) * noisy

    def log_variance_small(self, k: Tensor, like: Tensor) -> Tensor:
        """Return `log_small` at k [B], shaped to be added to `like`."""
        return self._at(self.log_small, k, like)

    def log_variance_large(self, k: Tensor, like: Tensor) -> Tensor:
        """Return `log_large` at k [B], shaped to be added to `like`."""
        return self._at(self.log_large, k, like)

    def ddpm_step(
        self, x0: Tensor, noisy: Tensor, k: Tensor, noise: Tensor, log_variance: Tensor | None = None
    ) -> Tensor:
        """Step from level k to k - 1 with fresh noise (the cleanest: none), by default of the small variance."""
        log_variance = self.log_variance_small(k, x0) if log_variance is None else log_variance
        fresh = (k > 0).view(-1, *[1] * (x0.ndim - 1)).to(x0)
        return self.posterior_mean(x0, noisy, k) + fresh * (log_variance / 2).exp() * noise

    def ddim_step(self, x0: Tensor, noisy: Tensor, k: Tensor, eta: float = 0, noise: Tensor | None = None) -> Tensor:
        """Step from level k to k - 1 (Song et al. 2021, eq. 12); eta 0 adds no noise, 1 has DDPM's variance.

        Raises ValueError where eta is above 0 and no noise is given.
        """
        if eta and noise is None:
            raise ValueError(f"eta {eta} adds fresh noise to every step; give noise")
        spread = eta * self.posterior_variance.sqrt()
        direction = (1 - self.previous - spread**2).clamp(min=0).sqrt()
        step = self._at(self.previous.sqrt(), k, x0) * x0
        step = step + self._at(direction, k, x0) * self.noise_of_x0(x0, noisy, k)
        return step if noise is None else step + self._at(spread, k, x0) * noise

    @staticmethod
    def _at(values: Tensor, k: Tensor, like: Tensor) -> Tensor:
        return values.to(like.device, like.dtype)[k].view(-1, *[1] * (like.ndim - 1))
