"""Segmentation-guided diffusion as its paper and code tell it: loops over samples and classes, nothing shared."""

from typing import Any

import torch
from torch import Tensor


def ablated(masks: Tensor, removed: list[list[bool]]) -> Tensor:
    """Label maps [B, H, W] in which `removed[b][k - 1]` takes class k out of sample b."""
    result = masks.clone()
    for sample, classes in enumerate(removed):
        for index, is_removed in enumerate(classes):
            if is_removed:
                result[sample][masks[sample] == index + 1] = 0
    return result


def loss(
    network: Any, alphas: Tensor, images: Tensor, masks: Tensor, eps: Tensor, t: Tensor, removed: list[list[bool]],
    divisor: float,
) -> Tensor:  # fmt: skip
    """The mean squared error of the predicted noise; images [B, C, H, W] in [-1, 1]."""
    seen = ablated(masks, removed)
    errors = []
    for sample in range(len(images)):
        abar = alphas[t[sample]]
        noisy = abar.sqrt() * images[sample] + (1 - abar).sqrt() * eps[sample]
        channel = torch.stack([torch.stack([label / divisor for label in row]) for row in seen[sample].to(eps.dtype)])
        predicted = network(torch.cat([noisy, channel[None]])[None], t[sample][None]).sample[0]
        errors.append(((predicted - eps[sample]) ** 2).mean())
    return torch.stack(errors).mean()


def draw(network: Any, alphas: Tensor, noise: Tensor, masks: Tensor, divisor: float, steps: int) -> Tensor:
    """DDIM without noise, clean images clipped to [-1, 1] in every step; images [B, C, H, W] in [0, 1]."""
    x, stride = noise, len(alphas) // steps
    for timestep in range((steps - 1) * stride, -1, -stride):
        abar = alphas[timestep]
        before = alphas[timestep - stride] if timestep >= stride else torch.ones_like(abar)
        seen = torch.cat([x, masks[:, None].to(x.dtype) / divisor], dim=1)
        eps = network(seen, torch.full((len(x),), timestep)).sample
        clean = ((x - (1 - abar).sqrt() * eps) / abar.sqrt()).clamp(-1, 1)
        x = before.sqrt() * clean + (1 - before).sqrt() * eps
    return (x / 2 + 0.5).clamp(0, 1)
