"""Grad-CAM (Selvaraju et al. 2017): the regions that a block of a network uses for a score."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def grad_cam(block: nn.Module, score: Callable[[], Tensor], size: tuple[int, int]) -> Tensor:
    """Return heatmaps [B, *size] in [0, 1] from the maps of `block` while `score` is computed.

    Each channel is weighted by the mean of the score's gradient over its pixels; negative evidence becomes 0, and each
    image is scaled so that its largest value is 1.
    """
    outputs: list[Tensor] = []

    def hook(module: nn.Module, inputs: Any, maps: Tensor) -> None:
        outputs.append(maps)

    handle = block.register_forward_hook(hook)
    try:
        with torch.enable_grad():
            value = score()
    finally:
        handle.remove()
    maps = outputs[-1]
    (gradient,) = torch.autograd.grad(value, maps)
    heat = (gradient.mean((2, 3), keepdim=True) * maps.detach()).sum(1, keepdim=True).relu().float()
    heat = F.interpolate(heat, size=size, mode="bilinear", align_corners=False)[:, 0]
    return heat / heat.amax((1, 2), keepdim=True).clamp(min=1e-12)
