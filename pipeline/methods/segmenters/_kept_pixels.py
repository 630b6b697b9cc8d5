"""Losses over the pixels whose label counts (Batch.kept); None stands for all, and then nothing is multiplied."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def mean(loss: Callable[..., Tensor], predicted: Tensor, true: Tensor, kept: Tensor | None) -> Tensor:
    """Return a loss of torch.nn.functional, mean over the kept pixels [B, *spatial]; 0 where there is none."""
    if kept is None:
        return loss(predicted, true)
    each = loss(predicted, true, reduction="none")
    shown = as_shares(kept, each)
    return (each * shown).sum() / shown.sum().clamp(min=1)


def per_sample(each: Tensor, kept: Tensor | None) -> Tensor:
    """Return the mean [B] of values [B, *spatial] over the kept pixels of each sample; 0 where there is none."""
    if kept is None:
        return each.flatten(1).mean(1)
    return (each * kept).flatten(1).sum(1) / kept.flatten(1).sum(1).clamp(min=1)


def as_shares(kept: Tensor, values: Tensor) -> Tensor:
    """Return kept pixels [B, *spatial] as 0 and 1 in the shape and type of values [B, *spatial] or [B, C, *spatial]."""
    return (kept if kept.ndim == values.ndim else kept[:, None]).to(values.dtype).expand_as(values)


def resized(kept: Tensor, size: int, align_corners: bool) -> Tensor:
    """Return the pixels of a resized image that take nothing, by bilinear interpolation, from an ignored pixel."""
    if kept.shape[-2:] == (size, size):
        return kept
    shares = F.interpolate(kept[:, None].float(), (size, size), mode="bilinear", align_corners=align_corners)
    return shares[:, 0] > 1 - 1e-5
