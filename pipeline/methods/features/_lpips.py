"""LPIPS (Zhang 2018) of the lpips package with its linear heads; the trunk is torchvision's, loaded here."""

import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.core import files
from pipeline.methods.features import _weights
from pipeline.networks.pretrained import Weights

HEADS = "0.1"  # version of the linear heads in the package
LICENCE = "BSD-3-Clause (torchvision)"


def published(file: str, size: float) -> Weights:
    """Return a file of torchvision, of so many bytes, whose name contains the first 8 digits of its hash."""
    digits = Path(file).stem.rpartition("-")[2]
    return Weights(file, f"https://download.pytorch.org/models/{file}", digits, LICENCE, size=size)


class Lpips:
    """Perceptual distances (contracts.Comparer); they depend on the size of the images."""

    def __init__(self, name: str, trunk: Literal["alex", "vgg"], file: Path) -> None:
        self.network = build_network(trunk)
        layers = self.network.get_submodule("net")
        _weights.load_state(layers, _rename_trunk(layers, _weights.read_tensors(file, "features.")), file)
        self.network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # 1.3 times as fast on a CPU
        self.id = f"{name}-{files.sha256(file)[:16]}-heads{HEADS}"

    @torch.no_grad()
    def __call__(self, first: Tensor, second: Tensor) -> NDArray[np.float32]:
        """Return distances [B] of two batches [B, 3, H, W] uint8, on the device of the images."""
        self.network.to(first.device)
        return self.network(rescale(first), rescale(second)).flatten().cpu().numpy()


def rescale(images: Tensor) -> Tensor:
    """Return uint8 images as floats in [-1, 1]."""
    return (images.float() / 127.5 - 1).contiguous(memory_format=torch.channels_last)


def build_network(trunk: Literal["alex", "vgg"]) -> nn.Module:
    """Build the package's network with its own heads and a random trunk, without download."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it uses an old keyword of torchvision
        return lpips.LPIPS(net=trunk, version=HEADS, pnet_rand=True, verbose=False)


def _rename_trunk(layers: nn.Module, features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename torchvision's tensors to the names of the package: `features.3.weight` is `slice2.3.weight`."""
    slices = {name.partition(".")[2]: name for name in layers.state_dict()}
    return {slices.get(name, f"features.{name}"): tensor for name, tensor in features.items()}
