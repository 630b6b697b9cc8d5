"""FID-Inception (Szegedy 2016; Heusel 2017) in the TorchScript of NVIDIA's StyleGAN2-ADA, which clean-fid uses too.

A TorchScript file is a program. It is run only after `networks.pretrained.find` has verified that its hash is the
published one, or one that the user wrote into params.yaml.
"""

import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.networks.pretrained import Weights

FEATURES = 2048
SIDE = 299  # pixels
WEIGHTS = Weights(
    file="inception-2015-12-05.pt",
    source="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    sha256="f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4",
    licence="Apache-2.0 (Google's network)",
    size=0.1e9,
)


class Inception:
    """Pooled features of the network in the file (contracts.Embedder), with its own resizing or with clean-fid's."""

    def __init__(self, name: str, file: Path, clean: bool) -> None:
        self.file, self.clean = file, clean
        self.id = f"{name}-{files.sha256(file)[:16]}-{f'clean{SIDE}' if clean else 'inside'}"
        self.device = torch.device("cpu")
        self.network = _load(file, self.device, clean)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> NDArray[np.float32]:
        """Return features [B, 2048] of [B, 3, H, W] uint8, on the device of the images."""
        if images.device != self.device:  # a frozen network stays where it was frozen
            self.device, self.network = images.device, _load(self.file, images.device, self.clean)
        if self.clean:
            rows = self.network(_channels_last((resize(images) - 128) / 128))
        else:
            rows = self.network(images.float(), return_features=True)
        return rows.reshape(len(images), FEATURES).float().cpu().numpy()


def resize(images: Tensor) -> Tensor:
    """Resize uint8 [B, 3, H, W] to floats in [0, 255] of SIDE pixels by PIL's bicubic, unrounded (Parmar 2022)."""
    channels = images.cpu().numpy().astype(np.float32)
    wide = np.empty((*channels.shape[:2], SIDE, SIDE), np.float32)
    for index in np.ndindex(channels.shape[:2]):
        picture = Image.fromarray(channels[index])
        wide[index] = np.asarray(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return torch.from_numpy(wide.clip(0, 255, out=wide)).to(images.device)


def _load(file: Path, device: torch.device, clean: bool) -> torch.jit.ScriptModule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch deprecates TorchScript, but the file is TorchScript
        return _frozen(file, device, clean)


def _frozen(file: Path, device: torch.device, clean: bool) -> torch.jit.ScriptModule:
    try:
        module = torch.jit.load(file, map_location=device).eval()
        network = module.layers if clean else module
    except (RuntimeError, ValueError, AttributeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{file} is not FID-Inception in TorchScript ({reason}); get {WEIGHTS.source}") from None
    if device.type == "cpu":
        network = network.to(memory_format=torch.channels_last)  # with freezing 1.5 times as fast
    return torch.jit.freeze(network)


def _channels_last(images: Tensor) -> Tensor:
    return images.contiguous(memory_format=torch.channels_last) if images.device.type == "cpu" else images
