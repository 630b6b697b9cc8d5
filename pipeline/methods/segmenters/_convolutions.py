"""Building blocks that the polyp networks share."""

import torch.nn.functional as F
from torch import Tensor, nn


def conv_bn(inside: int, outside: int, kernel: int = 1) -> nn.Sequential:
    """Convolution without bias + batch-norm, no activation: the published class defines a ReLU and never applies it."""
    return nn.Sequential(nn.Conv2d(inside, outside, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(outside))


def doubled(maps: Tensor) -> Tensor:
    """Twice the size, bilinear with aligned corners."""
    return F.interpolate(maps, scale_factor=2, mode="bilinear", align_corners=True)
