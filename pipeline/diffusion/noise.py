"""Noise that belongs to an image, not to its place in a batch or to a process."""

import hashlib

import torch
from torch import Tensor

from pipeline.core import seeding


def image_streams(images: Tensor, sample: int) -> list[torch.Generator]:
    """Return one random stream per image of [B, C, *spatial], named by its values and the index of the sample."""
    return [seeding.torch_rng("predict", _digest(image), sample) for image in images]


def _digest(image: Tensor) -> str:
    values = image.detach().to("cpu", torch.float32).contiguous().numpy()
    return hashlib.blake2b(values.tobytes(), digest_size=16).hexdigest()
