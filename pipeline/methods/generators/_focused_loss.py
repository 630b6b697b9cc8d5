"""Mean squared error with weights: of lesions against the rest, and of the levels of noise.

The weight of lesions follows LeFusion (Zhang et al., ICLR 2025), which averages the error inside the lesion over all
pixels, so that small lesions weigh little; here every lesion weighs the same, and a share of the plain error stays,
without which nothing outside is learnt.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.diffusion.min_snr import min_snr_weights
from pipeline.diffusion.schedule import Schedule
from pipeline.methods.generators._conditioned import Conditioned


@dataclass(frozen=True)
class WeightedError:
    """The error of a prediction as the keys `lesion_weight` and `min_snr` of a generator ask for it."""

    schedule: Schedule
    lesion_weight: float
    min_snr: float | None

    @classmethod
    def of(cls, params: Conditioned, schedule: Schedule) -> "WeightedError":
        """Return the error that the keys of a generator describe."""
        return cls(schedule, params.lesion_weight, params.min_snr)

    def __call__(self, predicted: Tensor, target: Tensor, t: Tensor, masks: Tensor | None = None) -> Tensor:
        """Return the weighted mean of the squared errors of [B, C, h, w] at timesteps [B].

        Without `masks`, label maps [B, H, W], lesions weigh as much as the rest.
        """
        weight = self.lesion_weight if masks is not None else 0.0
        if weight == 0 and self.min_snr is None:
            return F.mse_loss(predicted, target)
        return (self.of_levels(t) * focused_errors(predicted, target, masks, weight)).mean()

    def of_levels(self, t: Tensor) -> Tensor:
        """Return the weights [B] of samples at timesteps [B]."""
        if self.min_snr is None:
            return torch.ones_like(t, dtype=torch.float32)
        return min_snr_weights(self.schedule, t, self.min_snr)


def focused_errors(predicted: Tensor, target: Tensor, masks: Tensor | None, weight: float) -> Tensor:
    """Return (1 - weight) mean(e) + weight sum(h e) / sum(h) of every sample, e the squared errors.

    `predicted` and `target` are [B, C, h, w], `masks` [B, H, W] label maps; h is 1 in the cells that a lesion touches.
    A sample without a lesion has the plain mean.
    """
    errors = F.mse_loss(predicted, target, reduction="none").mean(1)
    plain = errors.mean((1, 2))
    if masks is None or weight == 0:
        return plain
    factor = masks.shape[-1] // errors.shape[-1]
    lesions = F.max_pool2d((masks > 0).to(errors.dtype)[:, None], factor)[:, 0]
    cells = lesions.sum((1, 2))
    inside = torch.where(cells > 0, (lesions * errors).sum((1, 2)) / cells.clamp(min=1), plain)
    return (1 - weight) * plain + weight * inside
