"""A plain U-Net (Ronneberger et al. 2015) of four levels, 32 to 256 channels, trained from scratch; 1,946,914 weights.

The network that the authors of Siamese-Diffusion name for their skin-lesion tables: pairs of 3x3 convolutions without
batch-norm, max-pooling, bilinear upsampling, two output classes. Each image is normalised to [0, 1]. Its loss is half
cross-entropy, half soft Dice of all classes, background included, pooled over the batch.
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core.contracts import Segmenter
from pipeline.data.sample import DatasetSpec
from pipeline.methods.segmenters import _supervised
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised, SupervisedObjective, min_max_normalize
from pipeline.methods.segmenters._unet_plain32_params import Params

LEVELS = 4
STRIDE = 2 ** (LEVELS - 1)


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return the network from `spec.channels` to `spec.num_classes` channels. Raises UserError."""
    _supervised.check_spec(spec, STRIDE, channels=(spec.channels,))
    unchanged = (0.0,) * spec.channels, (1.0,) * spec.channels
    network = Preprocessed(PlainUNet(params, spec.channels, spec.num_classes), unchanged, STRIDE)
    about: dict[str, Any] = {"method": "unet_plain32", "params": params.model_dump(mode="json")}
    about["weights"] = _supervised.weights_record("none")
    return Supervised(network, spec, about, SupervisedObjective(network, weight=0.5, first=0))


class PlainUNet(nn.Module):
    """Four levels joined by skip connections."""

    def __init__(self, params: Params, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = [params.width * 2**level for level in range(LEVELS)]
        self.stretch = params.stretch
        self.down = nn.ModuleList(map(_pair, [channels, *widths], widths))
        self.up = nn.ModuleList(_pair(deep + skip, skip) for skip, deep in pairwise(widths))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [B, K, H, W] of images [B, C, H, W] with sides a multiple of 8."""
        x, skips = (min_max_normalize(image) if self.stretch else image), []
        for level, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if level else x)
            skips.append(x)
        for block, skip in zip(reversed(self.up), reversed(skips[:-1]), strict=True):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = block(torch.cat([x, skip], 1))
        return self.head(x)


def _pair(in_channels: int, out_channels: int) -> nn.Sequential:
    first, second = (
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
    )
    return nn.Sequential(first, nn.ReLU(inplace=True), second, nn.ReLU(inplace=True))
