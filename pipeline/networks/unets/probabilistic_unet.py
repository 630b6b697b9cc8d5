"""The networks of the Probabilistic U-Net (Kohl et al. 2018) that a prediction needs: a U-Net, a prior, and their link.

Levels are made of 3 x 3 convolutions with ReLU, halved by mean pooling and doubled bilinearly; 1 x 1 convolutions join
the U-Net's last features with a point z of the latent space, the same at every pixel (f_comb, Eq. 3).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.networks.unets.gaussian_encoder import GaussianEncoder, GaussianEncoderShape, convolution


@dataclass(frozen=True)
class ProbabilisticShape:
    """Sizes of the networks; those of the paper for LIDC-IDRI by default."""

    in_channels: int = 1
    num_classes: int = 2
    filters: tuple[int, ...] = (32, 64, 128, 192)  # of each level, of the U-Net and of both Gaussian encoders
    convolutions: int = 3  # of each level
    latent: int = 6  # dimensions of z
    joining: int = 3  # 1 x 1 convolutions before the last one

    @property
    def stride(self) -> int:
        """Side of the image cells of the coarsest level."""
        return 2 ** (len(self.filters) - 1)

    def gaussian(self, mask_channels: int) -> GaussianEncoderShape:
        """Return the sizes of the prior (no mask) or of the posterior."""
        return GaussianEncoderShape(self.in_channels + mask_channels, self.filters, self.convolutions, self.latent)


class ProbabilisticUNet(nn.Module):
    """Images [B, C, H, W] with sides a multiple of the stride -> logits [B, K, H, W] for each point z [B, latent]."""

    def __init__(self, shape: ProbabilisticShape) -> None:
        super().__init__()
        self.shape, filters, count = shape, shape.filters, shape.convolutions
        self.down = nn.ModuleList(_level(a, b, count) for a, b in pairwise((shape.in_channels, *filters)))
        self.up = nn.ModuleList(_level(low + skip, skip, count) for skip, low in pairwise(filters))
        self.prior = GaussianEncoder(shape.gaussian(0))
        first = filters[0]
        self.joining = nn.Sequential()
        for before in (first + shape.latent, *[first] * (shape.joining - 1)):
            self.joining.extend([convolution(before, first, 1), nn.ReLU(inplace=True)])
        self.head = convolution(first, shape.num_classes, 1)

    def features(self, image: Tensor) -> Tensor:
        """Return the U-Net's last features [B, F, H, W]."""
        x, skips = image, []
        for level, block in enumerate(self.down):
            x = block(F.avg_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            x = block(torch.cat([x, skip], 1))
        return x

    def join(self, features: Tensor, z: Tensor) -> Tensor:
        """Return logits [B, K, H, W] of features and points z [B, latent]."""
        everywhere = z.to(features.dtype)[..., None, None].expand(-1, -1, *features.shape[-2:])
        return self.head(self.joining(torch.cat([features, everywhere], 1)))

    def forward(self, image: Tensor, points: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits for each of several points; the U-Net runs once."""
        features = self.features(image)
        return [self.join(features, z) for z in points]


def _level(in_channels: int, out_channels: int, count: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before in (in_channels, *[out_channels] * (count - 1)):
        layers += [convolution(before, out_channels, 3), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
