"""The paper's baseline (EnsDiff-like): one U-Net that sees the image as further channels of the noisy mask.

The common denoiser of Ho et al. with linear attention on every level; written from its description.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.networks.unets.dual_path_unet import DualPathShape, heatmap_level
from pipeline.networks.unets.residual_blocks import (
    Attention,
    LinearAttention,
    ResidualBlock,
    TimeEmbedding,
    down,
    same,
    up,
)

Step = Callable[[int, int], nn.Module]


class ConcatUNet(nn.Module):
    """(noisy masks, images, timesteps) -> what the process predicts; uses only the mask's path of a DualPathShape."""

    def __init__(self, shape: DualPathShape) -> None:
        super().__init__()
        fold, first = shape.stem_stride**2, shape.width_x
        widths = [first, *(first * m for m in shape.mult_x)]
        self.time = TimeEmbedding(first)
        self.fold, self.unfold = nn.PixelUnshuffle(shape.stem_stride), nn.PixelShuffle(shape.stem_stride)
        self.stem = nn.Conv2d(fold * (shape.mask_channels + shape.image_channels), first, 7, padding=3)
        steps, last = list(pairwise(widths)), len(shape.mult_x) - 1
        self.encoders = nn.ModuleList(
            Level(thin, thin, wide, place == last, down, shape) for place, (thin, wide) in enumerate(steps)
        )
        self.middle = Middle(widths[-1], shape)
        self.decoders = nn.ModuleList(
            Level(wide + thin, wide, thin, place == 0, up, shape)
            for place, (thin, wide) in reversed(list(enumerate(steps)))
        )
        self.joined = ResidualBlock(2 * first, first, 4 * first, shape.groups)
        self.head = nn.Conv2d(first, fold * shape.mask_channels, 1)

    def forward(self, noisy: Tensor, image: Tensor, timesteps: Tensor) -> Tensor:
        """[B, M, H, W], [B, C, H, W] and [B] -> [B, M, H, W]; sides a multiple of the shape's stride."""
        time = self.time(timesteps)
        x = stem = self.stem(self.fold(torch.cat([noisy, image], 1)))
        skips: list[Tensor] = []
        for level in self.encoders:
            x, kept = level(x, [], time)
            skips += kept
        x = self.middle(x, time)
        for level in self.decoders:
            x, _ = level(x, [skips.pop(), skips.pop()], time)
        return self.unfold(self.head(self.joined(torch.cat([x, stem], 1), time)))

    @property
    def heatmap_block(self) -> nn.Module:
        """The last block of the level of the encoder that heatmaps look at, as in DualPathUNet."""
        block = self.encoders[heatmap_level(len(self.encoders))]
        assert isinstance(block, Level)
        return block.attend


class Level(nn.Module):
    """Two residual blocks, linear attention and the step to the next level."""

    def __init__(self, inside: int, width: int, outside: int, end: bool, step: Step, shape: DualPathShape) -> None:
        super().__init__()
        self.first, self.second = (ResidualBlock(inside, width, 4 * shape.width_x, shape.groups) for _ in range(2))
        self.attend = LinearAttention(width, shape.heads, shape.dim_head)
        self.next = same(width, outside) if end else step(width, outside)

    def forward(self, x: Tensor, skips: list[Tensor], time: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the next level's maps, and the two skip connections of this level."""
        first = self.first(torch.cat([x, *skips[:1]], 1), time)
        second = self.attend(self.second(torch.cat([first, *skips[1:]], 1), time))
        return self.next(second), [first, second]


class Middle(nn.Module):
    """The bottleneck with full attention."""

    def __init__(self, width: int, shape: DualPathShape) -> None:
        super().__init__()
        self.first, self.second = (ResidualBlock(width, width, 4 * shape.width_x, shape.groups) for _ in range(2))
        self.attend = Attention(width, shape.heads, shape.dim_head)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """[B, C, H, W] -> the same shape."""
        return self.second(self.attend(self.first(x, time)), time)
