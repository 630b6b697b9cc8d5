"""Dense Hint Input computed step by step from a table of weights with the authors' names (specification §1.1)."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = Mapping[str, Tensor]


def dense_hint(w: Weights, hint: Tensor) -> Tensor:
    """[B, 3, H, W] -> [B, C, H/8, W/8]; `w` holds `0.initial_conv.weight` and so on."""
    x = residual(w, "0.layer1", convolution(w, "0.initial_conv", hint))
    x = residual(w, "0.layer2", convolution(w, "0.conv_before_res2", x))
    for number in (1, 2, 3):
        x = merge(w, f"0.patch_merge{number}", x)
        x = residual(w, f"0.layer{number + 2}", convolution(w, f"0.conv_before_res{number + 2}", x))
    return convolution(w, "1", x)


def convolution(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)


def residual(w: Weights, name: str, x: Tensor) -> Tensor:
    inner = F.silu(convolution(w, f"{name}.conv1", x))
    return F.silu(convolution(w, f"{name}.conv2", inner) + x)


def merge(w: Weights, name: str, x: Tensor) -> Tensor:
    """Four slices, (row 0, col 0), (1, 0), (0, 1), (1, 1), each a group of all channels."""
    x = x.permute(0, 2, 3, 1)
    slices = [x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]]
    joined = torch.cat(slices, dim=-1)
    normed = F.layer_norm(joined, joined.shape[-1:], w[f"{name}.norm.weight"], w[f"{name}.norm.bias"], 1e-5)
    return F.linear(normed, w[f"{name}.reduction.weight"], w[f"{name}.reduction.bias"]).permute(0, 3, 1, 2)
