"""Randomness belongs to the sample, not to the process: streams are hashes of names."""

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def number(*names: object) -> int:
    """Return a 63-bit number that depends on nothing but the names, the same on every machine."""
    digest = hashlib.blake2b("/".join(map(str, names)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def numpy_rng(*names: object) -> np.random.Generator:
    """Return a NumPy generator seeded by names."""
    return np.random.default_rng(number(*names))


def torch_rng(*names: object) -> "torch.Generator":
    """Return a torch generator seeded by names, on the CPU, so that its numbers do not vary with the device."""
    import torch

    return torch.Generator().manual_seed(number(*names))


def seed_everything(*names: object) -> None:
    """Seed the global streams that libraries use on their own (initial weights, dropout)."""
    import torch

    seed = number(*names)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
