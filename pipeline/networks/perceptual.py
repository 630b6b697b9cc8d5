"""The perceptual distance of two sets of images, in the features of a frozen network (Zhang et al. 2018, LPIPS).

The network is EfficientNet-Lite0 with the ImageNet weights of its package, so that nothing is downloaded; unlike LPIPS
no channel has a learned weight.
"""

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.diffusion.schedule import at_least_float32
from pipeline.networks import packaged_efficientnet as packaged

STAGES = (0, 1, 2, 3)  # feature maps at strides 2, 4, 8 and 16
NEARLY_ZERO = 1e-10  # shortest feature vector that keeps its direction


class PerceptualDistance(nn.Module):
    """Squared distance of unit feature vectors, pixel by pixel; always in evaluation mode and without gradients."""

    def __init__(self, weights: bool = True) -> None:
        """Build the network with its packaged weights, or without (`weights` False), where only shapes matter."""
        super().__init__()
        self.network = timm.create_model(
            packaged.ARCHITECTURE, pretrained=False, features_only=True, out_indices=STAGES
        )
        if weights:
            state = packaged.packaged_weights()
            self.network.load_state_dict({name: state[name] for name in self.network.state_dict()})
        self.requires_grad_(False).to(memory_format=torch.channels_last)  # faster on a CPU
        self.train(False)

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """Stay in evaluation mode: the statistics of batch norms are those of ImageNet."""
        return super().train(False)

    def forward(self, made: Tensor, image: Tensor) -> Tensor:
        """Return the distance of images [B, 3, H, W] in [-1, 1], the network's own range, as one number.

        Each pixel's feature vector is divided by its norm; squares are summed over channels, averaged over pixels and
        images, and summed over feature maps. The gradient reaches `made` alone.
        """
        with torch.no_grad():
            wanted = self.unit_features(image)
        distances = [
            (found - target).square().sum(1).mean()
            for found, target in zip(self.unit_features(made), wanted, strict=True)
        ]
        return torch.stack(distances).sum()

    def unit_features(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps [B, C, h, w] of images in [-1, 1], with vectors of length 1 at every pixel."""
        return [F.normalize(one, dim=1, eps=NEARLY_ZERO) for one in self.feature_maps(image)]

    def feature_maps(self, image: Tensor) -> list[Tensor]:
        """Return the feature maps [B, C, h, w] of images in [-1, 1]."""
        maps = self.network(image.contiguous(memory_format=torch.channels_last))
        return [at_least_float32(one) for one in maps]
