"""Blocks of the mask denoisers: residual blocks conditioned on time, linear and full attention, changes of scale."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.diffusion.embedding import index_embedding


class StandardizedConv(nn.Conv2d):
    """A convolution whose filters have mean 0 and variance 1 (Qiao et al. 2019)."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, D, H, W]."""
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), unbiased=False, keepdim=True)
        eps = 1e-5 if input.dtype == torch.float32 else 1e-3
        return self._conv_forward(input, (self.weight - mean) * (variance + eps).rsqrt(), self.bias)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with group norm; the time scales and shifts the first."""

    def __init__(self, inside: int, outside: int, time: int, groups: int) -> None:
        super().__init__()
        groups = math.gcd(groups, outside)
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(time, 2 * outside))
        self.first, self.second = _standardized(inside, outside), _standardized(outside, outside)
        self.first_norm, self.second_norm = nn.GroupNorm(groups, outside), nn.GroupNorm(groups, outside)
        self.shortcut = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Maps [B, C, H, W] and an embedded time [B, E] -> [B, D, H, W]."""
        scale, shift = self.time(time)[:, :, None, None].chunk(2, 1)
        h = F.silu(self.first_norm(self.first(x)) * (scale + 1) + shift)
        return F.silu(self.second_norm(self.second(h))) + self.shortcut(x)


def _standardized(inside: int, outside: int) -> StandardizedConv:
    return StandardizedConv(inside, outside, 3, padding=1)


class LinearAttention(nn.Module):
    """x + attention whose cost grows with the number of pixels, not its square (Shen et al. 2021)."""

    def __init__(self, channels: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv2d(channels, 3 * heads * dim_head, 1, bias=False)
        self.out = nn.Sequential(nn.Conv2d(heads * dim_head, channels, 1), nn.GroupNorm(1, channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        q, k, v = _heads(self.qkv(self.norm(x)), self.heads)
        q = q.softmax(-2) * self.dim_head**-0.5
        context = k.softmax(-1) @ v.transpose(-1, -2)  # [B, heads, keys, values]
        attended = context.transpose(-1, -2) @ q
        return x + self.out(attended.flatten(1, 2).unflatten(-1, x.shape[-2:]))


class Attention(nn.Module):
    """x + attention of every pixel to every other."""

    def __init__(self, channels: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(1, channels)
        self.qkv = nn.Conv2d(channels, 3 * heads * dim_head, 1, bias=False)
        self.out = nn.Conv2d(heads * dim_head, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        q, k, v = (part.transpose(-1, -2) for part in _heads(self.qkv(self.norm(x)), self.heads))
        attended = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        return x + self.out(attended.flatten(1, 2).unflatten(-1, x.shape[-2:]))


def _heads(qkv: Tensor, heads: int) -> tuple[Tensor, ...]:
    """[B, 3 heads dim, H, W] -> queries, keys and values [B, heads, dim, H W]."""
    return tuple(part.flatten(2).unflatten(1, (heads, -1)) for part in qkv.chunk(3, 1))


class TimeEmbedding(nn.Module):
    """Timesteps [B] -> [B, 4 width]: sines and cosines, then two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.layers = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width))

    def forward(self, timesteps: Tensor) -> Tensor:
        """Embed the timesteps."""
        return self.layers(index_embedding(timesteps, self.width))


def down(inside: int, outside: int) -> nn.Sequential:
    """Build a layer that halves the size: 2x2 pixels become channels, then a 1x1 convolution."""
    return nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * inside, outside, 1))


def up(inside: int, outside: int) -> nn.Sequential:
    """Build a layer that doubles the size: nearest upsampling, then a 3x3 convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), same(inside, outside))


def same(inside: int, outside: int) -> nn.Conv2d:
    """Build the layer of the outermost levels: a 3x3 convolution that keeps the size."""
    return nn.Conv2d(inside, outside, 3, padding=1)
