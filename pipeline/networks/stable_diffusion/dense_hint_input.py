"""Dense Hint Input (DHI): residual blocks and patch merging that bring a hint to the latent grid (Qiu et al. 2025)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """SiLU(conv(SiLU(conv(x))) + x); no normalisation, the activation comes after the sum."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.silu(self.conv2(F.silu(self.conv1(x_BCHW))) + x_BCHW)


class PatchMerging(nn.Module):
    """[B, C, H, W] -> [B, 2C, H/2, W/2]: the four pixels of a 2x2 patch, column by column, normalised and projected."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, 2 * channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        b, c, h, w = x_BCHW.shape
        patches = x_BCHW.view(b, c, h // 2, 2, w // 2, 2)
        # (row 0, col 0), (row 1, col 0), (row 0, col 1), (row 1, col 1), each a contiguous group of C channels
        merged = patches.permute(0, 2, 4, 5, 3, 1).reshape(b, h // 2, w // 2, 4 * c)
        return self.reduction(self.norm(merged)).permute(0, 3, 1, 2)


class DenseHintInput(nn.Module):
    """Hint [B, 3, H, W] in [0, 1] -> [B, out_channels, H/factor, W/factor], zero before training.

    At factor 8 these are the 13 layers of the paper (2,526,272 parameters before the zero convolution); other powers of
    two have fewer or more merges. The first layer has the 16 channels of the paper; before a network of fewer than 64
    channels it has a quarter of them, or the hint would take longer than the network. A drop-in for diffusers'
    ControlNetConditioningEmbedding, which follows diffusers' `enable_gradient_checkpointing` of the network around it.
    """

    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., Any]  # set by diffusers

    def __init__(self, out_channels: int, factor: int = 8) -> None:
        super().__init__()
        if factor < 1 or factor & (factor - 1):
            raise ValueError(f"factor is {factor}; it must be a power of two")
        channels = min(16, out_channels // 4)
        layers: list[nn.Module] = [nn.Conv2d(3, channels, 3, padding=1), ResidualBlock(channels)]
        layers += [nn.Conv2d(channels, 2 * channels, 3, padding=1), ResidualBlock(2 * channels)]
        channels *= 2
        for _ in range(factor.bit_length() - 1):
            layers.append(PatchMerging(channels))
            channels *= 2
            layers += [nn.Conv2d(channels, channels, 3, padding=1), ResidualBlock(channels)]
        self.layers = nn.Sequential(*layers)
        self.zero = nn.Conv2d(channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.zero.weight)
        nn.init.zeros_(self.zero.bias)  # type: ignore[arg-type]

    def forward(self, conditioning: Tensor) -> Tensor:
        if not (self.gradient_checkpointing and torch.is_grad_enabled()):
            return self.zero(self.layers(conditioning))
        hidden = conditioning
        for layer in self.layers:
            hidden = self._gradient_checkpointing_func(layer, hidden)
        return self.zero(hidden)
