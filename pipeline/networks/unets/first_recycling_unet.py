"""The U-Net of release 0.1.0 of ImgX-DiffSeg, that of the first paper (Fu et al. 2023, arXiv 2303.06040).

One residual block at full resolution, then a narrowing and a block for each of the channels; on the way up a transposed
convolution with a bias and without a norm, the sum with the block of that resolution, a block. No transformer. The time
is the number of the noise level, as it is.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.diffusion.embedding import fraction_embedding
from pipeline.networks.unets.recycling_unet import (
    CONVOLUTIONS,
    TRANSPOSED,
    Narrow,
    RecyclingShape,
    ResidualBlock,
    stem,
)


class FirstRecyclingUNet(nn.Module):
    """[B, inside, *spatial] and, with time, noise levels / 10,000 [B] -> [B, outside, *spatial]."""

    def __init__(self, shape: RecyclingShape) -> None:
        super().__init__()
        self.shape = shape
        widths = (shape.channels[0], *shape.channels)
        self.stem = stem(shape)
        self.down = nn.ModuleList(ResidualBlock(shape, width) for width in widths)
        self.narrow = nn.ModuleList(
            Narrow(shape, shallow, deep, stride)
            for shallow, deep, stride in zip(widths[:-1], widths[1:], shape.strides, strict=True)
        )
        self.widen = nn.ModuleList(
            TRANSPOSED[shape.ndim](deep, shallow, stride, stride)  # type: ignore[arg-type]
            for shallow, deep, stride in zip(widths[:-1], widths[1:], shape.strides, strict=True)
        )
        self.up = nn.ModuleList(ResidualBlock(shape, width) for width in widths[:-1])
        self.head = CONVOLUTIONS[shape.ndim](widths[0], shape.outside, 1)

    def forward(self, x: Tensor, fraction: Tensor | None = None) -> Tensor:
        """Map sides of any length; `fraction` is required with time and ignored without."""
        time = None
        if self.shape.time and fraction is not None:
            time = F.gelu(fraction_embedding(fraction, self.shape.time_width).to(x.dtype), approximate="tanh")
        x = self.down[0](self.stem(x), time)
        skips = [x]
        for narrow, block in zip(self.narrow, list(self.down)[1:], strict=True):
            x = block(narrow(x), time)
            skips.append(x)
        skips.pop()
        for widen, block in zip(reversed(self.widen), reversed(self.up), strict=True):
            skip = skips.pop()
            window = (..., *(slice(side) for side in skip.shape[2:]))
            x = block(widen(x)[window] + skip, time)
        return self.head(x)
