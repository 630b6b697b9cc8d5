"""The denoiser of DermoSegDiff (Bozorgpour et al. 2023): the noisy mask and the image have an encoder each.

On every level the two meet: the image's path (guidance) sees the mask's maps, its maps gate those of the mask, and
both results are skip connections of one decoder. Written from a description of the architecture; at the paper's widths
it has the published number of weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.networks.unets.residual_blocks import (
    Attention,
    LinearAttention,
    ResidualBlock,
    TimeEmbedding,
    down,
    same,
    up,
)

MIDDLE_GROUPS, HEAD_GROUPS = 4, 1  # of group norm in the bottleneck and before the last convolution, as published
HEATMAP_LEVEL = 3  # level of the encoder that heatmaps look at: EM_3 in the paper's Fig. 4, 32 x 32 maps at 128 pixels


@dataclass(frozen=True)
class DualPathShape:
    """Sizes of a network; the defaults are the paper's for ISIC 2018 and PH2."""

    mask_channels: int = 1
    image_channels: int = 3
    width_x: int = 128  # channels of the mask's path at the first level
    width_g: int = 64  # of the image's
    mult_x: tuple[int, ...] = (1, 2, 3, 4, 5, 6)  # times width_x: channels below each level
    mult_g: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    heads: int = 4
    dim_head: int = 32
    groups: int = 8  # of group norm
    stem_stride: int = 1  # pixels per side that the first convolution folds into one

    @property
    def stride(self) -> int:
        """Pixels per side of the coarsest cell."""
        return self.stem_stride * 2 ** (len(self.mult_x) - 1)


def heatmap_level(levels: int) -> int:
    """Return the index of HEATMAP_LEVEL among so many levels of an encoder; of the last one where there are fewer."""
    return min(HEATMAP_LEVEL, levels) - 1


class DualPathUNet(nn.Module):
    """(noisy masks, images, timesteps) -> what the process predicts, shaped as the masks."""

    def __init__(self, shape: DualPathShape) -> None:
        super().__init__()
        fold = shape.stem_stride**2
        xs = [shape.width_x, *(shape.width_x * m for m in shape.mult_x)]
        gs = [shape.width_g, *(shape.width_g * m for m in shape.mult_g)]
        self.time_x, self.time_g = TimeEmbedding(shape.width_x), TimeEmbedding(shape.width_g)
        self.fold, self.unfold = nn.PixelUnshuffle(shape.stem_stride), nn.PixelShuffle(shape.stem_stride)
        self.stem_x = nn.Conv2d(fold * shape.mask_channels, xs[0], 1)
        self.stem_g = nn.Conv2d(fold * shape.image_channels, gs[0], 1)
        levels = list(zip(pairwise(xs), pairwise(gs), strict=True))
        last = len(levels) - 1
        self.encoders = nn.ModuleList(Encoder(x, g, place == last, shape) for place, (x, g) in enumerate(levels))
        self.middle = Middle(xs[-1] + gs[-1], xs[-1], shape)
        self.decoders = nn.ModuleList(
            Decoder(x, x[0] + g[0], place == 0, shape) for place, (x, g) in reversed(list(enumerate(levels)))
        )
        self.joined = ResidualBlock(2 * xs[0] + gs[0], xs[0], 4 * xs[0], HEAD_GROUPS)
        self.head = nn.Conv2d(xs[0], fold * shape.mask_channels, 1)

    def forward(self, noisy: Tensor, image: Tensor, timesteps: Tensor) -> Tensor:
        """[B, M, H, W], [B, C, H, W] and [B] -> [B, M, H, W]; sides a multiple of the shape's stride."""
        time_x, time_g = self.time_x(timesteps), self.time_g(timesteps)
        x = stem_x = self.stem_x(self.fold(noisy))
        g = stem_g = self.stem_g(self.fold(image))
        skips: list[tuple[Tensor, Tensor]] = []
        for encoder in self.encoders:
            x, g, skip = encoder(x, g, time_x, time_g)
            skips.append(skip)
        x = self.middle(torch.cat([x, g], 1), time_x)
        for decoder, skip in zip(self.decoders, reversed(skips), strict=True):
            x = decoder(x, skip, time_x)
        return self.unfold(self.head(self.joined(torch.cat([x, stem_x, stem_g], 1), time_x)))

    @property
    def heatmap_block(self) -> nn.Module:
        """The block whose output is the mask's path after HEATMAP_LEVEL of the encoder, where it has met the image."""
        block = self.encoders[heatmap_level(len(self.encoders))]
        assert isinstance(block, Encoder)
        return block.attend_x


class Encoder(nn.Module):
    """One level of both paths, and the step to the next; the last keeps its size."""

    def __init__(self, xs: Sequence[int], gs: Sequence[int], last: bool, shape: DualPathShape) -> None:
        super().__init__()
        (x, next_x), (g, next_g) = xs, gs
        time_x, time_g, groups, heads = (
            4 * shape.width_x,
            4 * shape.width_g,
            shape.groups,
            (shape.heads, shape.dim_head),
        )
        self.x1, self.x2 = ResidualBlock(x, x, time_x, groups), ResidualBlock(x, x, time_x, groups)
        self.g1, self.g2 = ResidualBlock(g, g, time_g, groups), ResidualBlock(x + g, g, time_g, groups)
        self.feedback = nn.Conv2d(g, x, 1)
        self.attend_x, self.attend_g = LinearAttention(x, *heads), LinearAttention(x + g, *heads)
        step = same if last else down
        self.next_x, self.next_g = step(x, next_x), step(x + g, next_g)

    def forward(
        self, x: Tensor, g: Tensor, time_x: Tensor, time_g: Tensor
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Return the next level's maps of both paths, and the two skip connections."""
        x, g = self.x1(x, time_x), self.g1(g, time_g)
        met = torch.cat([x, g], 1)
        g = self.g2(met, time_g)
        x = self.attend_x(self.x2(self.feedback(g) * x, time_x))
        both = torch.cat([x, g], 1)
        return self.next_x(x), self.next_g(self.attend_g(both)), (both, met)


class Middle(nn.Module):
    """The bottleneck: linear and full attention side by side, each with its own residual."""

    def __init__(self, inside: int, outside: int, shape: DualPathShape) -> None:
        super().__init__()
        time, heads = 4 * shape.width_x, (shape.heads, shape.dim_head)
        self.first = ResidualBlock(inside, outside, time, MIDDLE_GROUPS)
        self.linear, self.full = LinearAttention(outside, *heads), Attention(outside, *heads)
        self.second = ResidualBlock(2 * outside, outside, time, MIDDLE_GROUPS)

    def forward(self, z: Tensor, time: Tensor) -> Tensor:
        """[B, inside, H, W] -> [B, outside, H, W]."""
        z = self.first(z, time)
        return self.second(torch.cat([z, self.full(z) + self.linear(z)], 1), time)


class Decoder(nn.Module):
    """One level of the decoder, and the step to the finer one; the finest keeps its size."""

    def __init__(self, xs: Sequence[int], skip: int, finest: bool, shape: DualPathShape) -> None:
        super().__init__()
        x, wide = xs
        blocks = (ResidualBlock(wide + skip, wide, 4 * shape.width_x, shape.groups) for _ in range(2))
        self.first, self.second = blocks
        self.attend = LinearAttention(wide, shape.heads, shape.dim_head)
        self.next = (same if finest else up)(wide, x)

    def forward(self, y: Tensor, skips: tuple[Tensor, Tensor], time: Tensor) -> Tensor:
        """[B, wide, H, W] and the level's skips -> [B, x, H, W] or twice that size."""
        y = self.first(torch.cat([y, skips[0]], 1), time)
        y = self.second(torch.cat([y, skips[1]], 1), time)
        return self.next(self.attend(y))
