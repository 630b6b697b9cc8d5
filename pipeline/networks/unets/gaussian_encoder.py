"""An axis-aligned Gaussian that a convolutional encoder predicts from an image and its mask (Kohl et al. 2018).

The Probabilistic U-Net draws from one that sees the image alone, its prior, and is trained with one that sees the mask
of a rater too, its posterior. CIMD's ambiguity modelling network (on the true mask) and ambiguity controlling network
(on the predicted one) serve as a penalty in training only.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from pipeline.diffusion.schedule import at_least_float32


@dataclass(frozen=True)
class GaussianEncoderShape:
    """Sizes of the encoder; those of the paper by default."""

    in_channels: int = 2  # of the image, and one of the mask
    filters: tuple[int, ...] = (32, 64, 128, 192)  # of each level, halved in size between
    convolutions: int = 3  # of each level
    latent: int = 6  # dimensions of the Gaussian


class GaussianEncoder(nn.Module):
    """Images [B, C, H, W] and masks [B, M, H, W] in [-1, 1] -> a Gaussian of `latent` independent dimensions."""

    def __init__(self, shape: GaussianEncoderShape) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for level, (inside, outside) in enumerate(pairwise((shape.in_channels, *shape.filters))):
            if level:
                layers.append(nn.AvgPool2d(2, ceil_mode=True))
            widths = (inside, *[outside] * shape.convolutions)
            for before, after in pairwise(widths):
                layers += [convolution(before, after, 3), nn.ReLU(inplace=True)]
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Conv2d(shape.filters[-1], 2 * shape.latent, 1)
        nn.init.kaiming_normal_(self.head.weight, nonlinearity="relu")
        nn.init.normal_(self.head.bias)  # type: ignore[arg-type]

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Independent:
        """Return the distribution Q(z | image, mask), or P(z | image)."""
        seen = image if mask is None else torch.cat([image, mask], 1)
        features = self.encoder(seen).mean((2, 3), keepdim=True)
        mean, log_sigma = at_least_float32(self.head(features)).flatten(1).chunk(2, 1)
        return Independent(Normal(mean, log_sigma.exp(), validate_args=False), 1, validate_args=False)


def divergence(first: Independent, second: Independent) -> Tensor:
    """Return KL(first || second) in nats [B], summed over the dimensions."""
    return torch.distributions.kl_divergence(first, second)


def convolution(in_channels: int, out_channels: int, side: int) -> nn.Conv2d:
    """Return a convolution that keeps the size, with He's initial weights and small biases."""
    layer = nn.Conv2d(in_channels, out_channels, side, padding=side // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.trunc_normal_(layer.bias, std=1e-3)  # type: ignore[arg-type]
    return layer
