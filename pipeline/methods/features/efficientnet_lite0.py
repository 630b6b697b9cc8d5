"""EfficientNet-Lite0 (Liu 2020) with the ImageNet weights of its package: 1280 features, no download.

TensorFlow's variant (`tf_efficientnet_lite0` in timm) and its normalisation (x - 0.5) / 0.5: only with these do the
weights' batch-norm statistics fit.
"""

from pathlib import Path

import numpy as np
import timm
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core import files
from pipeline.networks import packaged_efficientnet as packaged

OUTPUT = "rows"
WEIGHTS = None  # they come with a package
SIDE = 224  # pixels


class EfficientNetLite0:
    """Pooled features before the classifier (contracts.Embedder)."""

    def __init__(self) -> None:
        network = timm.create_model(packaged.ARCHITECTURE, pretrained=False)
        network.load_state_dict(packaged.packaged_weights())
        network.reset_classifier(0)  # type: ignore[operator]
        self.network = network.eval().to(memory_format=torch.channels_last)  # twice as fast on a CPU
        weights = files.sha256(packaged.weights_file())
        self.id = f"efficientnet_lite0-{weights[:16]}-bicubic{SIDE}-half"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Return features [B, 1280] of [B, 3, H, W] uint8, on the device of the images."""
        self.network.to(images.device)
        return self.network(resize(images) * 2 - 1).float().cpu().numpy()


def resize(images: Tensor) -> Tensor:
    """Resize uint8 images to floats in [0, 1] of SIDE pixels: bicubic, antialiased, unrounded (Parmar 2022)."""
    wide = images.float() / 255
    if wide.shape[-2:] != (SIDE, SIDE):
        wide = F.interpolate(wide, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
    return wide.clamp(0, 1).contiguous(memory_format=torch.channels_last)


def build(file: Path | None = None) -> EfficientNetLite0:
    """Build the extractor, on the CPU until it gets images on another device."""
    return EfficientNetLite0()
