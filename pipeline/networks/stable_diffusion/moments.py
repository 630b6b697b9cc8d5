"""Posterior moments of all images of a set, computed once, so that no training step encodes an image."""

import hashlib
from functools import partial

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core import files
from pipeline.core.progress import track
from pipeline.networks.stable_diffusion.model import StableDiffusion

AT_ONCE = 8  # images per forward pass


def moments_of(model: StableDiffusion, images: Tensor, flipped: bool, group: int | None = None) -> Tensor:
    """Return mean and log-variance [N, 2C, h, w], on the CPU, of images [N, 3, H, W] uint8, mirrored if `flipped`.

    They are read from `model.keep` where they are kept, and kept there. The last bits of a convolution depend on how
    many images it sees and on their layout in memory: with `group` the moments are those of a training step, a forward
    pass of exactly so many images; else of AT_ONCE or what is left of them, in the layout of the files.
    """
    if model.keep is None:
        return _encoded(model, images, flipped, group)
    folder = model.keep / _content(model, images, flipped, group)
    path = folder / "moments.safetensors"
    if files.is_intact(folder):
        return load_file(path)["moments"]
    moments = _encoded(model, images, flipped, group).contiguous()
    with files.replacing(path) as temporary:
        save_file({"moments": moments}, temporary)
    files.seal(folder)
    return moments


def _encoded(model: StableDiffusion, images: Tensor, flipped: bool, group: int | None) -> Tensor:
    parts = track(images.split(group or AT_ONCE), "latents of mirrored images" if flipped else "latents of images")
    encode = _encode if group is None else partial(_encode_as_training, group=group)
    return torch.cat([encode(model, part.flip(-1) if flipped else part) for part in parts])


def _encode(model: StableDiffusion, part: Tensor) -> Tensor:
    return model.moments(part.float() / 255).cpu()


def _encode_as_training(model: StableDiffusion, part: Tensor, group: int) -> Tensor:
    """Encode a part of a set, filled up to a whole group with the images that it begins with, and contiguous."""
    filled = part[torch.arange(group) % len(part)].contiguous()
    return _encode(model, filled)[: len(part)]


def _content(model: StableDiffusion, images: Tensor, flipped: bool, group: int | None) -> str:
    """Hash what the bytes of the moments depend on: images, autoencoder, device and its products, threads, groups."""
    settings = f"{images.shape} {flipped} {_device(model.unet.device)} {torch.get_num_threads()}"
    if group is not None:
        settings += f" {group} {torch.is_autocast_enabled(model.unet.device.type)}"
    total = hashlib.sha256(settings.encode())
    total.update(images.numpy().tobytes())
    for name, weight in model.autoencoder.state_dict().items():
        total.update(name.encode() + weight.cpu().numpy().tobytes())
    return total.hexdigest()[:32]


def _device(device: torch.device) -> str:
    """Name a device: a GPU by its name and whether it multiplies in TF32."""
    if device.type != "cuda":
        return device.type
    exact = not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"
    return f"{torch.cuda.get_device_name(device)} {'fp32' if exact else 'tf32'}"
