"""Image towers of OpenAI's CLIP (Radford 2021) by open_clip, with OpenAI's own QuickGELU.

open_clip's architectures without "-quickgelu" in their names take the same file without a word and give other features.
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
from pipeline.methods.features import _pictures, _reading
from pipeline.networks.pretrained import Weights

TOWER = "visual."  # the prefix of its tensors
LICENCE = "MIT"


def published(repository: str) -> Weights:
    """open_clip's official file in a repository of the hub."""
    return Weights("open_clip_model.safetensors", f"hf:{repository}", sha256=None, licence=LICENCE)


class Clip:
    """Projected embeddings of length 1 (contracts.Embedder)."""

    def __init__(self, name: str, architecture: str, file: Path) -> None:
        self.network = tower(architecture)
        _reading.fill(self.network, _reading.read(file, TOWER), file)
        self.prepare = preparation(architecture)
        self.id = f"{name}-{files.sha256(file)[:16]}-bicubic{side(architecture)}-crop"

    @torch.no_grad()
    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """[B, 3, H, W] uint8 -> [B, D]; works on the device of the images."""
        self.network.to(images.device)
        return F.normalize(self.network(_pictures.prepared(images, self.prepare))).cpu().numpy()


def tower(architecture: str) -> nn.Module:
    """The image tower without weights, on the meta device."""
    import open_clip

    with torch.device("meta"):
        return open_clip.CLIP(**config(architecture)).visual


def preparation(architecture: str) -> Callable[[Image.Image], Tensor]:
    """open_clip's own: PIL's bicubic on the shorter side, the centre, OpenAI's normalisation."""
    import open_clip

    return cast(Callable[[Image.Image], Tensor], open_clip.image_transform(side(architecture), is_train=False))


def side(architecture: str) -> int:
    """Pixels of the tower's input."""
    return config(architecture)["vision_cfg"]["image_size"]


def config(architecture: str) -> dict[str, Any]:
    """open_clip's description of an architecture."""
    import open_clip

    found = open_clip.get_model_config(architecture)
    if found is None or not found.get("quick_gelu"):
        raise ValueError(f"{architecture} is not an architecture of open_clip with OpenAI's activations")
    return found
