"""Attention U-Net (Oktay et al. 2018, arXiv 1804.03999), in two dimensions and from scratch; 34,878,638 weights.

A U-Net of five levels with batch normalisation, each of whose skip connections passes a gate: additive attention of the
skip's features (x) and of the decoder's, one level up-sampled (g), gives a weight between 0 and 1 for each position.

Here, as in the public 2-D networks of that name, g is up-sampled before the gate; the paper's 3-D network compares x
and g on the grid of g and up-samples the weights.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _supervised
from pipeline.methods.segmenters._att_unet_params import Params
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised

LEVELS = 5
STRIDE = 2 ** (LEVELS - 1)


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return the network from `spec.channels` to `spec.num_classes` channels. Raises UserError."""
    _supervised.check_spec(spec, STRIDE, channels=(spec.channels,))
    unchanged = (0.0,) * spec.channels, (1.0,) * spec.channels
    network = Preprocessed(AttentionUNet(params.width, spec.channels, spec.num_classes), unchanged, STRIDE)
    about: dict[str, Any] = {"method": "att_unet", "params": params.model_dump(mode="json")}
    about["weights"] = _supervised.weights_record("none")
    return Supervised(network, spec, about)


class AttentionUNet(nn.Module):
    """Images [B, C, H, W] with sides a multiple of 16 -> logits [B, K, H, W]."""

    def __init__(self, width: int, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(LEVELS)]
        self.down = nn.ModuleList(map(_pair, [channels, *widths], widths))
        self.enlarged = nn.ModuleList(_layer(deep, skip) for skip, deep in pairwise(widths))
        self.gates = nn.ModuleList(map(AttentionGate, widths[:-1]))
        self.up = nn.ModuleList(_pair(2 * skip, skip) for skip in widths[:-1])
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits."""
        x, skips = image, []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for level in reversed(range(LEVELS - 1)):
            x = self.enlarged[level](F.interpolate(x, scale_factor=2, mode="nearest"))
            x = self.up[level](torch.cat([self.gates[level](skips[level], x), x], 1))
        return self.head(x)


class AttentionGate(nn.Module):
    """x [B, C, H, W] weighted by sigmoid(psi(ReLU(W_x x + W_g g))) (Eq. 1 and 2), each projection normalised."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.of_skip, self.of_gate = _projection(channels, channels // 2), _projection(channels, channels // 2)
        self.psi = _projection(channels // 2, 1)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """Return the gated features; g has the shape of x."""
        return x * self.psi(F.relu(self.of_skip(x) + self.of_gate(g))).sigmoid()


def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))


def _layer(in_channels: int, out_channels: int) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def _pair(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(_layer(in_channels, out_channels), _layer(out_channels, out_channels))
