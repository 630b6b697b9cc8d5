"""The U-Net of guided diffusion (Dhariwal & Nichol 2021) in the shape that CIMD (Rahman et al. 2023) trains.

Two residual blocks per level, strided convolutions down and nearest-neighbour up, attention at some levels and in the
middle, an additive embedding of time, last layers that start at zero.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.diffusion.embedding import PERIOD, fraction_embedding


@dataclass(frozen=True)
class GuidedShape:
    """Sizes of the network; those of the paper at 128 pixels by default."""

    in_channels: int = 5
    out_channels: int = 2
    base: int = 128  # channels of the first level; of the time embedding, four times as many
    multipliers: tuple[int, ...] = (1, 1, 2, 3, 4)  # channels of each level, in units of base
    blocks: int = 2  # residual blocks of a level on the way down; one more on the way up
    attention: tuple[int, ...] = (8,)  # strides at which there is attention
    heads: int = 1
    groups: int = 32  # of every normalisation; fewer where they do not divide its channels
    dropout: float = 0.0

    @property
    def stride(self) -> int:
        """Pixels of the image per pixel of the coarsest level, along one side."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(self.base * multiplier for multiplier in self.multipliers)

    @property
    def time_width(self) -> int:
        """Width of the time embedding that each block gets."""
        return 4 * self.base


class GuidedUNet(nn.Module):
    """Maps [B, in, H, W] and indices of time [B] -> maps [B, out, H, W]; sides a multiple of the stride."""

    def __init__(self, shape: GuidedShape) -> None:
        super().__init__()
        self.shape = shape
        self.time = nn.Sequential(
            nn.Linear(shape.base, shape.time_width), nn.SiLU(), nn.Linear(shape.time_width, shape.time_width)
        )
        first = shape.widths[0]
        self.down = nn.ModuleList([Stage(nn.Conv2d(shape.in_channels, first, 3, padding=1))])
        skips = [first]
        for level, width in enumerate(shape.widths):
            self._descend(level, width, skips)
        deepest = skips[-1]
        between = Attention(deepest, shape.heads, shape.groups)
        self.middle = Stage(Block(deepest, deepest, shape), between, Block(deepest, deepest, shape))
        self.up = nn.ModuleList()
        width = deepest
        for level in reversed(range(len(shape.multipliers))):
            width = self._ascend(level, width, skips)
        last = zeroed(nn.Conv2d(width, shape.out_channels, 3, padding=1))
        self.head = nn.Sequential(_norm(width, shape.groups), nn.SiLU(), last)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor | None = None) -> Tensor:
        """`time` holds indices of the original process, 0 to T - 1.

        `condition` [B, 4 base] is added to the embedding of time; None adds nothing.
        """
        embedded = self.time(fraction_embedding(time / PERIOD, self.shape.base).to(x.dtype))
        embedded = embedded if condition is None else embedded + condition
        skips = []
        for stage in self.down:
            x = stage(x, embedded)
            skips.append(x)
        x = self.middle(x, embedded)
        for stage in self.up:
            x = stage(torch.cat([x, skips.pop()], 1), embedded)
        return self.head(x)

    def _descend(self, level: int, width: int, skips: list[int]) -> None:
        for _ in range(self.shape.blocks):
            self.down.append(Stage(Block(skips[-1], width, self.shape), *_attended(self.shape, level, width)))
            skips.append(width)
        if level + 1 < len(self.shape.multipliers):
            self.down.append(Stage(nn.Conv2d(width, width, 3, stride=2, padding=1)))
            skips.append(width)

    def _ascend(self, level: int, inside: int, skips: list[int]) -> int:
        """Add the stages of one level, consume their skips, and return the channels of their output."""
        width = self.shape.widths[level]
        for number in range(self.shape.blocks + 1):
            layers = [Block(inside + skips.pop(), width, self.shape), *_attended(self.shape, level, width)]
            if level and number == self.shape.blocks:
                layers.append(Enlarge(width))
            self.up.append(Stage(*layers))
            inside = width
        return width


class Stage(nn.ModuleList):
    """Layers in sequence, of which blocks get the time."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(layers)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedded) if isinstance(layer, Block) else layer(x)
        return x


class Block(nn.Module):
    """Two convolutions behind norm and SiLU around a shortcut; the time is added between them."""

    def __init__(self, inside: int, outside: int, shape: GuidedShape) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(inside, shape.groups), nn.SiLU(), nn.Conv2d(inside, outside, 3, padding=1))
        self.time = nn.Sequential(nn.SiLU(), nn.Linear(shape.time_width, outside))
        last = zeroed(nn.Conv2d(outside, outside, 3, padding=1))
        self.second = nn.Sequential(_norm(outside, shape.groups), nn.SiLU(), nn.Dropout(shape.dropout), last)
        self.shortcut = nn.Identity() if inside == outside else nn.Conv2d(inside, outside, 1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        hidden = self.first(x) + self.time(embedded)[:, :, None, None]
        return self.shortcut(x) + self.second(hidden)


class Attention(nn.Module):
    """Self-attention over all pixels in `heads` heads, around a shortcut."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, _norm(width, groups)
        self.query_key_value = nn.Conv1d(width, 3 * width, 1)
        self.out = zeroed(nn.Conv1d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, width, height, wide = x.shape
        flat = x.reshape(batch, width, height * wide)
        joined = self.query_key_value(self.norm(flat)).view(batch, self.heads, 3, width // self.heads, -1)
        query, key, value = joined.transpose(-1, -2).unbind(2)
        attended = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2).reshape(flat.shape)
        return (flat + self.out(attended)).view(x.shape)


class Enlarge(nn.Module):
    """Twice the size by repeating pixels, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(F.interpolate(x, scale_factor=2, mode="nearest"))


def zeroed(layer: nn.Conv2d | nn.Conv1d) -> nn.Module:
    """Set all weights of a layer to zero, so that its block starts as the shortcut."""
    for weight in layer.parameters():
        nn.init.zeros_(weight)
    return layer


def _attended(shape: GuidedShape, level: int, width: int) -> list[nn.Module]:
    """Return the attention of a level, if any."""
    return [Attention(width, shape.heads, shape.groups)] if 2**level in shape.attention else []


def _norm(width: int, groups: int) -> nn.GroupNorm:
    """Return a GroupNorm of at most `groups` groups, as many as divide the channels."""
    return nn.GroupNorm(math.gcd(width, min(groups, width)), width)
