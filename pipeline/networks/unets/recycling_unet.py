"""The U-Net of ImgX-DiffSeg (Fu et al. 2023), in two or three dimensions, with or without time.

Residual blocks with instance norm and tanh-GELU, skips that are added (of the stem, of every block and of every
narrowing), a transformer at the bottom. With time every block adds a linear map of the embedded fraction of the
process, and nothing else differs: both networks are one trunk. The instance norm that follows subtracts that map again,
in the originals as here, so that the output does not depend on the time.

The public code has three of them. Release 0.3.2: the transformer has no positions, and a norm before attention and
perceptron. Release 0.3.1, that of the paper in MELBA: a learned vector for each cell of the bottom, so that every input
has one size, and the norm after attention and perceptron, before the sum. Release 0.1.0, that of the first paper, is in
first_recycling_unet.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.diffusion.embedding import fraction_embedding

Version = Literal["0.3.2", "0.3.1", "0.1.0"]
EPSILON = 1e-6  # of the norms
POSITION_SPREAD = 0.02  # standard deviation of the first positions
CONVOLUTIONS: dict[int, type[nn.Conv2d] | type[nn.Conv3d]] = {2: nn.Conv2d, 3: nn.Conv3d}
TRANSPOSED: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {
    2: nn.ConvTranspose2d,
    3: nn.ConvTranspose3d,
}


@dataclass(frozen=True)
class RecyclingShape:
    """Size of the network."""

    ndim: int  # 2 or 3
    inside: int  # input channels
    outside: int  # output channels
    channels: tuple[int, ...] = (32, 64, 128, 256)  # of each level
    blocks: int = 2  # of a level on the way down; one more on the way up
    heads: int = 8
    head_width: int | None = None  # None: a quarter of the deepest level's channels
    layers: int = 1  # of the transformer; 0: none
    patch: tuple[int, ...] | None = None  # stride of the first narrowing; None: 2 along each axis
    dropout: float = 0.1
    time: bool = True
    version: Version = "0.3.2"  # release of the public code
    window: tuple[int, ...] | None = None  # sides of every input of 0.3.1, which learns positions; None: any

    @property
    def strides(self) -> list[tuple[int, ...]]:
        """The stride of each downsampling, along each axis."""
        halved = (2,) * self.ndim
        count = len(self.channels) - (self.version != "0.1.0")
        return [self.patch or halved, *[halved] * (count - 1)]

    @property
    def stride(self) -> tuple[int, ...]:
        """The stride of the bottleneck, along each axis."""
        product = [1] * self.ndim
        for stride in self.strides:
            product = [total * factor for total, factor in zip(product, stride, strict=True)]
        return tuple(product)

    @property
    def time_width(self) -> int:
        """The width of the embedded time."""
        return 4 * self.channels[0] if self.version == "0.1.0" else self.channels[-1]

    @property
    def epsilon(self) -> float:
        """What the instance norms add to the variance: the default of Haiku, then of Flax."""
        return 1e-5 if self.version == "0.1.0" else EPSILON

    @property
    def positions(self) -> int:
        """The cells of the bottleneck that have a learned vector each; 0 for no positions."""
        if self.version != "0.3.1" or not self.layers:
            return 0
        assert self.window is not None
        sides = self.window
        for stride in self.strides:
            sides = [-(-side // step) for side, step in zip(sides, stride, strict=True)]
        return math.prod(sides)


class RecyclingUNet(nn.Module):
    """[B, inside, *spatial] and, with time, fractions [B] in (0, 1] -> [B, outside, *spatial]."""

    def __init__(self, shape: RecyclingShape) -> None:
        super().__init__()
        self.shape = shape
        widths, strides = shape.channels, shape.strides
        self.stem = stem(shape)
        self.down = nn.ModuleList(_blocks(shape, width, shape.blocks) for width in widths)
        self.narrow = nn.ModuleList(
            Narrow(shape, *pair, stride) for pair, stride in zip(pairwise(widths), strides, strict=True)
        )
        self.bottom = _blocks(shape, widths[-1], 2)
        head_width = shape.head_width or max(widths[-1] // 4, 1)
        self.layers = nn.ModuleList(
            TransformerLayer(widths[-1], shape.heads, head_width, shape.dropout, shape.version == "0.3.1")
            for _ in range(shape.layers)
        )
        self.positions = nn.Parameter(torch.empty(shape.positions, widths[-1])) if shape.positions else None
        if self.positions is not None:
            bound = 2 * POSITION_SPREAD
            nn.init.trunc_normal_(self.positions, std=POSITION_SPREAD, a=-bound, b=bound)
        self.norm = nn.LayerNorm(widths[-1], eps=EPSILON) if shape.layers else nn.Identity()
        self.up = nn.ModuleList(_blocks(shape, width, shape.blocks + 1) for width in widths)
        self.widen = nn.ModuleList(
            Widen(shape.ndim, deep, shallow, stride)
            for (shallow, deep), stride in zip(pairwise(widths), strides, strict=True)
        )
        self.head = CONVOLUTIONS[shape.ndim](widths[0], shape.outside, 1)

    def forward(self, x: Tensor, fraction: Tensor | None = None) -> Tensor:
        """Map sides of any length, or of shape.window; `fraction` is required with time and ignored without."""
        if self.positions is not None and x.shape[2:] != torch.Size(self.shape.window or ()):
            raise UserError(
                f"version 0.3.1 has learned positions for images of {list(self.shape.window or ())} cells, found"
                f" {list(x.shape[2:])}; use that size, or version 0.3.2"
            )
        time = None
        if self.shape.time and fraction is not None:
            time = F.gelu(fraction_embedding(fraction, self.shape.channels[-1]).to(x.dtype), approximate="tanh")
        skips = self._downward(x, time)
        x = self._across(skips[-1], time)
        for level in reversed(range(len(self.up))):
            for block in self.up[level]:  # type: ignore[union-attr]
                x = block(x + skips.pop(), time)
            if level:
                x = self.widen[level - 1](x, skips[-1].shape[2:])
        return self.head(x)

    def _downward(self, x: Tensor, time: Tensor | None) -> list[Tensor]:
        """Return all skips: of the stem, of every block and of every downsampling."""
        skips = [self.stem(x)]
        for level, blocks in enumerate(self.down):
            if level:
                skips.append(self.narrow[level - 1](skips[-1]))
            for block in blocks:  # type: ignore[union-attr]
                skips.append(block(skips[-1], time))
        return skips

    def _across(self, x: Tensor, time: Tensor | None) -> Tensor:
        """Run the bottleneck: block, transformer over all cells, block."""
        first, second = self.bottom
        x = first(x, time)
        if len(self.layers):
            tokens = x.flatten(2).transpose(1, 2)
            if self.positions is not None:
                tokens = tokens + self.positions
            for layer in self.layers:
                tokens = layer(tokens)
            x = self.norm(tokens).transpose(1, 2).reshape(x.shape)
        return second(x, time)


class InstanceNorm(nn.GroupNorm):
    """Each channel of each sample by its own mean and variance; a single cell becomes the bias."""

    def __init__(self, channels: int, epsilon: float) -> None:
        super().__init__(channels, channels, eps=epsilon)

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


class ResidualBlock(nn.Module):
    """Two convolutions around which the input is added; time enters before the second norm."""

    def __init__(self, shape: RecyclingShape, width: int) -> None:
        super().__init__()
        self.first, self.second = (_conv(shape.ndim, width, width, 3) for _ in range(2))
        self.norms = nn.ModuleList(InstanceNorm(width, shape.epsilon) for _ in range(2))
        self.gelu, self.dropout = _gelu(), nn.Dropout(shape.dropout)
        self.time = nn.Linear(shape.time_width, width) if shape.time else None

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        """[B, C, *spatial] and the activated embedding of time [B, E] -> [B, C, *spatial]."""
        inner = self.second(self.dropout(self.gelu(self.norms[0](self.first(x)))))
        if self.time is not None:
            if time is None:
                raise ValueError("a network with time needs the fraction of the process")
            inner = inner + self.time(time).view(*inner.shape[:2], *[1] * (inner.ndim - 2))
        return self.gelu(self.norms[1](inner) + x)


class Narrow(nn.Module):
    """A convolution whose kernel is its stride, and a norm; odd sides are filled up with zeros at their end."""

    def __init__(self, shape: RecyclingShape, inside: int, outside: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        options: dict[str, Any] = {"kernel_size": stride, "stride": stride, "bias": False}
        self.conv, self.norm, self.stride = (
            CONVOLUTIONS[shape.ndim](inside, outside, **options),
            InstanceNorm(outside, shape.epsilon),
            stride,
        )

    def forward(self, x: Tensor) -> Tensor:
        missing = [-side % step for side, step in zip(x.shape[2:], self.stride, strict=True)]
        if any(missing):
            x = F.pad(x, [amount for end in reversed(missing) for amount in (0, end)])
        return self.norm(self.conv(x))


class Widen(nn.Module):
    """A transposed convolution whose kernel is its stride, and a norm, then cropped to a size."""

    def __init__(self, ndim: int, inside: int, outside: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        options: dict[str, Any] = {"kernel_size": stride, "stride": stride, "bias": False}
        self.conv, self.norm = TRANSPOSED[ndim](inside, outside, **options), InstanceNorm(outside, EPSILON)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        return self.norm(self.conv(x))[(..., *(slice(side) for side in size))]


class TransformerLayer(nn.Module):
    """Attention and a perceptron, each around a norm that comes before it or after it; tokens [B, N, C]."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float, norm_after: bool) -> None:
        super().__init__()
        self.heads, self.norm_after = heads, norm_after
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=EPSILON) for _ in range(2))
        self.project = nn.Linear(width, 3 * heads * head_width)  # queries, keys, values
        self.join = nn.Linear(heads * head_width, width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), _gelu(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        before, after = self.norms
        if self.norm_after:
            tokens = tokens + before(self.dropout(self._attend(tokens)))
            return tokens + after(self.dropout(self.perceptron(tokens)))
        tokens = tokens + self.dropout(self._attend(before(tokens)))
        return tokens + self.dropout(self.perceptron(after(tokens)))

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, length, _ = tokens.shape
        parts = self.project(tokens).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.join(F.scaled_dot_product_attention(*parts).transpose(1, 2).reshape(batch, length, -1))


def stem(shape: RecyclingShape) -> nn.Sequential:
    """Return the layers from the input to the first width: a convolution, a norm, an activation."""
    width = shape.channels[0]
    return nn.Sequential(_conv(shape.ndim, shape.inside, width, 3), InstanceNorm(width, shape.epsilon), _gelu())


def _blocks(shape: RecyclingShape, width: int, count: int) -> nn.ModuleList:
    return nn.ModuleList(ResidualBlock(shape, width) for _ in range(count))


def _conv(ndim: int, inside: int, outside: int, kernel: int) -> nn.Conv2d | nn.Conv3d:
    return CONVOLUTIONS[ndim](inside, outside, kernel, padding=kernel // 2, bias=False)


def _gelu() -> nn.GELU:
    return nn.GELU(approximate="tanh")
