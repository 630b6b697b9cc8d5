"""DINOv2 (Oquab 2023) by timm: the normalised class token at 224 pixels, preprocessed as by Stein 2023 (dgm-eval).

The published position embeddings are for 518 pixels; timm resamples them (bicubic, antialiased).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pipeline.core import files
from pipeline.methods.features import _preprocessing, _weights
from pipeline.networks.pretrained import Weights

SIDE = 224  # pixels
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
POSITIONS = "pos_embed"


def published(architecture: str, size: float) -> Weights:
    """Return timm's official file, of so many bytes, in the architecture's repository of the hub."""
    return Weights("model.safetensors", f"hf:timm/{architecture}", sha256=None, licence="Apache-2.0", size=size)


class DinoV2:
    """Class tokens (contracts.Embedder)."""

    def __init__(self, name: str, architecture: str, file: Path) -> None:
        from timm.models.vision_transformer import checkpoint_filter_fn

        self.network = build_backbone(architecture)
        weights = _weights.read_tensors(file)
        if weights.get(POSITIONS, torch.empty(0)).ndim == 3:
            weights = checkpoint_filter_fn(weights, self.network)  # type: ignore[arg-type]
        _weights.load_state(self.network, weights, file)
        self.id = f"{name}-{files.sha256(file)[:16]}-bicubic{SIDE}-imagenet"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Return features [B, D] of [B, 3, H, W] uint8, on the device of the images."""
        self.network.to(images.device)
        return self.network(preprocess(images)).cpu().numpy()


def build_backbone(architecture: str) -> nn.Module:
    """Build the network for SIDE pixels without weights, on the meta device."""
    import timm

    with torch.device("meta"):
        return timm.create_model(architecture, pretrained=False, img_size=SIDE, num_classes=0)


def preprocess(images: Tensor) -> Tensor:
    """Return [B, 3, SIDE, SIDE] of uint8 [B, 3, H, W], normalised by ImageNet's mean and standard deviation."""
    wide = _preprocessing.preprocess(images, resize).float() / 255
    mean, std = (wide.new_tensor(figures)[:, None, None] for figures in (MEAN, STD))
    return (wide - mean) / std


def resize(picture: Image.Image) -> Tensor:
    """Resize an image of any shape to uint8 [3, SIDE, SIDE] by PIL's bicubic."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous()
