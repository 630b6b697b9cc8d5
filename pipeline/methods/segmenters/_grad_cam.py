"""Grad-CAM (Selvaraju et al. 2017): where a block of a network looks for a score."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grad_cam(block: nn.Module, score: Callable[[], Tensor], size: tuple[int, int]) -> Tensor:
    """Heatmaps [B, *size] in [0, 1] of the maps that `block` gives while `score` is computed.

    Each channel weighs what the score's gradient is in the mean over its pixels; what speaks against the score counts
    as 0, and each image's largest value as 1.
    """
    seen: list[Tensor] = []

    def keep(module: nn.Module, given: Any, maps: Tensor) -> None:
        seen.append(maps)

    handle = block.register_forward_hook(keep)
    try:
        with torch.enable_grad():
            value = score()
    finally:
        handle.remove()
    maps = seen[-1]
    (slope,) = torch.autograd.grad(value, maps)
    heat = (slope.mean((2, 3), keepdim=True) * maps.detach()).sum(1, keepdim=True).relu().float()
    heat = F.interpolate(heat, size=size, mode="bilinear", align_corners=False)[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)
