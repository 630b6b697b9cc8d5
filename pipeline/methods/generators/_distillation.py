"""The distillation loss of ADC (Qiu et al., MICCAI 2025), in which lesion and background count alike."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Weighting = Literal["ratio", "normalised", "none"]


def distillation(
    student: Tensor, teacher: Tensor, masks: Tensor, weighting: Weighting, levels: Tensor | None = None
) -> Tensor:
    """Return the mean of W (student - teacher)^2 over samples, channels and cells; `levels` [B] weight the samples.

    `student` and `teacher` are predictions [B, C, h, w], `masks` [B, H, W] label maps. With r the share of the lesion,
    W is 1 - r in the lesion and r in the background (`ratio`). The loss of a sample is then r (1 - r) times the sum of
    both regions' means, so it fades where r is near 0 or 1. `normalised` divides W by its mean, 2 r (1 - r), and takes
    the lesion's share of each cell; an image of one region has the plain mean. `none` has the plain mean everywhere.
    """
    errors = F.mse_loss(student, teacher, reduction="none").mean(1)
    if levels is not None:
        errors = errors * levels[:, None, None]
    return errors.mean() if weighting == "none" else (balance(masks, errors, weighting) * errors).mean()


def balance(masks: Tensor, errors: Tensor, weighting: Literal["ratio", "normalised"]) -> Tensor:
    """Return the weights W [B, h, w] of the cells of `errors`; the public code takes the nearest pixel of each cell."""
    lesions, size = (masks > 0).to(errors.dtype)[:, None], (errors.shape[-2], errors.shape[-1])
    nearest = weighting == "ratio"
    cells = F.interpolate(lesions, size, mode="nearest") if nearest else F.adaptive_avg_pool2d(lesions, size)
    share = cells.mean((2, 3), keepdim=True)
    weights = cells * (1 - share) + (1 - cells) * share
    if weighting == "normalised":
        mean = 2 * share * (1 - share)
        weights = torch.where(mean > 0, weights / mean, 1.0)
    return weights[:, 0]
