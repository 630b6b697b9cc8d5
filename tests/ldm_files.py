"""Checkpoints in LDM layout with random weights and small sizes, as their makers write them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from pipeline.networks.stable_diffusion import ldm_base, ldm_control, ldm_keys, sd15
from pipeline.networks.stable_diffusion.ldm_control import Hint
from pipeline.networks.stable_diffusion.sd15 import PartConfigs

SMALL = PartConfigs(  # factor 8 as SD 1.5, four levels, three of them attending
    {**sd15.UNET, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1, "cross_attention_dim": 16},
    {**sd15.VAE, "block_out_channels": (32, 32, 64, 64), "layers_per_block": 1},
    {**sd15.TEXT, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2},
)
TOKENS = 77


def base(seed: int = 0) -> dict[str, Tensor]:
    """All weights of a base under their LDM names."""
    return dict(_base(seed))


@cache
def _base(seed: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    models = ldm_base.empty_parts(SMALL)
    shapes = ldm_base.expected_shapes(models, ldm_base.base_tables(models, SMALL))
    return {key: torch.randn(shape, generator=rng) for key, shape in shapes.items()}


def both(seed: int = 0) -> dict[str, Tensor]:
    """A base with a moving average of its U-Net beside it, as v1-5-pruned.ckpt: here the weights plus 1."""
    state = base(seed)
    averages = {ldm_keys.ema(key): value + 1 for key, value in state.items() if key.startswith(ldm_keys.UNET)}
    return state | averages | {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(1)}


def released(hint: Hint, seed: int = 0) -> dict[str, Tensor]:
    """A generator as Siamese-Diffusion's authors release it: base, ControlNet, and LDM's tables."""
    return dict(_released(hint, seed))


@cache
def _released(hint: Hint, seed: int) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed + 1)
    network = ldm_control.empty_controlnet(SMALL, hint)
    shapes = ldm_base.shapes_of(network, ldm_keys.controlnet(network.state_dict(), SMALL.unet))
    control = {key: torch.randn(shape, generator=rng) for key, shape in shapes.items()}
    return base(seed) | control | ldm_control.buffers(TOKENS)


@contextmanager
def lightning() -> Iterator[type]:
    """A module of Lightning's name with its class, there while a file is written and gone when it is read."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    modules = [ModuleType(".".join(name.split(".")[:depth])) for depth in range(1, 4)]
    kind = type("ModelCheckpoint", (), {"__module__": name})
    modules[-1].ModelCheckpoint = kind  # type: ignore[attr-defined]
    sys.modules.update({module.__name__: module for module in modules})
    try:
        yield kind
    finally:
        for module in modules:
            del sys.modules[module.__name__]


def write_ckpt(state: dict[str, Tensor], path: Path) -> Path:
    """Writes torch's format with the weights under `state_dict`."""
    torch.save({"state_dict": state, "global_step": 3000}, path)
    return path
