"""Building blocks that the polyp networks share."""

import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(in_channels: int, out_channels: int, kernel: int = 1) -> nn.Sequential:
    """Return a convolution without bias + batch-norm; the published class defines a ReLU but never applies it."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(out_channels)
    )


def upsample2x(maps: Tensor) -> Tensor:
    """Upsample to twice the size, bilinearly with aligned corners."""
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)
