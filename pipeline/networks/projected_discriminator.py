"""A discriminator that sees images through a frozen network (Projected GAN, Sauer et al. 2021).

The frozen network is EfficientNet-Lite0 with the ImageNet weights of its package. Only small heads are trained, one per
feature map, so a few hundred steps on a few hundred images suffice. Unlike in the paper, features are not mixed across
channels and scales by random projections, and the heads do not reduce the resolution.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

CHANNELS = (16, 24, 40, 112)  # of the feature maps of PerceptualDistance, at strides 2, 4, 8 and 16
WIDTH = 64  # channels inside a head
SLOPE = 0.2  # of leaky ReLUs below zero


class ProjectedDiscriminator(nn.ModuleList):
    """One head per feature map; each gives one logit per position. Every convolution has a spectral norm of 1."""

    def __init__(self, channels: Sequence[int] = CHANNELS, width: int = WIDTH) -> None:
        super().__init__(_head(count, width) for count in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Return logits [B, 1, h, w] for each feature map [B, C, h, w]: positive where an image seems real."""
        return [head(features) for head, features in zip(self, maps, strict=True)]


def _head(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(
        spectral_norm(nn.Conv2d(channels, width, 1)),
        nn.LeakyReLU(SLOPE),
        spectral_norm(nn.Conv2d(width, width, 3, padding=1)),
        nn.LeakyReLU(SLOPE),
        spectral_norm(nn.Conv2d(width, 1, 1)),
    )
