"""Image towers of OpenAI's CLIP (Radford 2021) by open_clip, with OpenAI's own QuickGELU.

open_clip's architectures without "-quickgelu" in their names load the same file silently and give other features.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from pipeline.core import files
from pipeline.methods.features import _preprocessing, _weights
from pipeline.networks.pretrained import Weights

TOWER = "visual."  # the prefix of its tensors
LICENCE = "MIT"


def published(repository: str, size: float) -> Weights:
    """Return open_clip's official file, of so many bytes, in a repository of the hub."""
    return Weights("open_clip_model.safetensors", f"hf:{repository}", sha256=None, licence=LICENCE, size=size)


class Clip:
    """Projected embeddings of length 1 (contracts.Embedder)."""

    def __init__(self, name: str, architecture: str, file: Path) -> None:
        self.network = build_tower(architecture)
        _weights.load_state(self.network, _weights.read_tensors(file, TOWER), file)
        self.transform = image_transform(architecture)
        self.id = f"{name}-{files.sha256(file)[:16]}-bicubic{input_side(architecture)}-crop"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Return features [B, D] of [B, 3, H, W] uint8, on the device of the images."""
        self.network.to(images.device)
        return F.normalize(self.network(_preprocessing.preprocess(images, self.transform))).cpu().numpy()


def build_tower(architecture: str) -> nn.Module:
    """Build the image tower without weights, on the meta device."""
    import open_clip

    with torch.device("meta"):
        return open_clip.CLIP(**config(architecture)).visual


def image_transform(architecture: str) -> Callable[[Image.Image], Tensor]:
    """Return open_clip's transform: PIL's bicubic on the shorter side, centre crop, OpenAI's normalisation."""
    import open_clip

    return cast(Callable[[Image.Image], Tensor], open_clip.image_transform(input_side(architecture), is_train=False))


def input_side(architecture: str) -> int:
    """Return the side of the tower's input in pixels."""
    return config(architecture)["vision_cfg"]["image_size"]


def config(architecture: str) -> dict[str, Any]:
    """Return open_clip's configuration of an architecture."""
    import open_clip

    model_config = open_clip.get_model_config(architecture)
    if model_config is None or not model_config.get("quick_gelu"):
        raise ValueError(f"{architecture} is not an architecture of open_clip with OpenAI's activations")
    return model_config
