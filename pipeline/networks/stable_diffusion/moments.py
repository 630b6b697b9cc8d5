"""Posterior moments of all images of a set, computed once, so that no training step encodes an image."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core import files, locks
from pipeline.core.progress import track
from pipeline.networks.stable_diffusion.model import StableDiffusion

AT_ONCE = 8  # images per forward pass
PART = 64  # images that one process encodes before it looks for more; a few more where a group does not divide it
NAME = "moments.safetensors"


def moments_of(model: StableDiffusion, images: Tensor, flipped: bool, group: int | None = None) -> Tensor:
    """Return mean and log-variance [N, 2C, h, w], on the CPU, of images [N, 3, H, W] uint8, mirrored if `flipped`.

    They are read from `model.keep` where they are kept, and kept there, in parts of whole groups. Processes that want
    the same moments share the parts, each encoding those that no other holds the lock of, and wait for the rest. The
    last bits of a convolution depend on how many images it sees and on their layout in memory: with `group` the moments
    are those of a training step, a forward pass of exactly so many images; else of AT_ONCE or what is left of them, in
    the layout of the files.
    """
    size = group or AT_ONCE
    parts = images.split(size * -(-PART // size))
    title = "latents of mirrored images" if flipped else "latents of images"
    encode = partial(_encoded, model, flipped=flipped, group=group)
    if model.keep is None:
        return torch.cat([encode(part) for part in track(parts, title)])
    contents = _contents(model, parts, flipped, group)
    work = [(model.keep / content, part) for content, part in zip(contents, parts, strict=True)]
    others = [(folder, part) for folder, part in track(work, title) if not _keep(folder, part, encode, locks.attempt)]
    for folder, part in others:
        _keep(folder, part, encode, locks.wait_for)
    return torch.cat([load_file(folder / NAME)["moments"] for folder, _ in work])


def _keep(folder: Path, part: Tensor, encode: Callable[[Tensor], Tensor], lock: Callable[[str], Any]) -> bool:
    """Return whether the moments of a part are there, after having made them unless another process holds the lock."""
    if files.is_intact(folder):
        return True
    with lock(f"moments_{folder.name}") as free:
        if free is False:
            return False
        if not files.is_intact(folder):  # the process that held the lock before has made them
            moments = encode(part).contiguous()
            with files.replacing(folder / NAME) as temporary:
                save_file({"moments": moments}, temporary)
            files.seal(folder)
    return True


def _encoded(model: StableDiffusion, images: Tensor, flipped: bool, group: int | None) -> Tensor:
    encode = _encode if group is None else partial(_encode_as_training, group=group)
    groups = images.split(group or AT_ONCE)
    return torch.cat([encode(model, some.flip(-1) if flipped else some) for some in groups])


def _encode(model: StableDiffusion, part: Tensor) -> Tensor:
    return model.moments(part.float() / 255).cpu()


def _encode_as_training(model: StableDiffusion, part: Tensor, group: int) -> Tensor:
    """Encode a part of a set, filled up to a whole group with the images that it begins with, and contiguous."""
    filled = part[torch.arange(group) % len(part)].contiguous()
    return _encode(model, filled)[: len(part)]


def _contents(model: StableDiffusion, parts: tuple[Tensor, ...], flipped: bool, group: int | None) -> list[str]:
    """Hash what the bytes of each part depend on: autoencoder, device and its products, threads, groups, images."""
    settings = f"{flipped} {_device(model.unet.device)} {torch.get_num_threads()}"
    if group is not None:
        settings += f" {group} {torch.is_autocast_enabled(model.unet.device.type)}"
    common = hashlib.sha256(settings.encode())
    for name, weight in model.autoencoder.state_dict().items():
        common.update(name.encode())
        common.update(_bytes(weight.cpu()))
    return [_content(common.copy(), part) for part in parts]


def _content(total: Any, part: Tensor) -> str:
    total.update(str(tuple(part.shape)).encode())
    total.update(_bytes(part))
    return total.hexdigest()[:32]


def _bytes(values: Tensor) -> Any:
    """Return the bytes of a tensor on the CPU, without a copy where it is contiguous."""
    return values.contiguous().view(-1).view(torch.uint8).numpy()


def _device(device: torch.device) -> str:
    """Name a device: a GPU by its name and whether it multiplies in TF32."""
    if device.type != "cuda":
        return device.type
    exact = not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"
    return f"{torch.cuda.get_device_name(device)} {'fp32' if exact else 'tf32'}"
