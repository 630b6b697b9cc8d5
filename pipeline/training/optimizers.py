"""The optimisers of recipes: AdamW, AdamW with 8-bit states, and SGD with Nesterov momentum."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pipeline.core.contracts import Recipe
from pipeline.core.errors import UserError

MOMENTUM = 0.9  # of SGD


def build(recipe: Recipe, parameters: Iterable[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """Build the recipe's optimiser, fused on CUDA. Raises UserError where 8-bit states are not available."""
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    groups = _groups(parameters, recipe.learning_rate)
    if recipe.optimizer == "adamw_8bit":
        return _adamw_8bit(device)(groups, betas=recipe.betas, **settings)
    if device.type == "cuda":
        settings["fused"] = True
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=MOMENTUM, nesterov=True, **settings)
    return torch.optim.AdamW(groups, betas=recipe.betas, **settings)


def check(recipe: Recipe, device: torch.device, sharding: str) -> None:
    """Raise UserError where the recipe's optimiser cannot run on this device, or with this sharding."""
    if recipe.optimizer != "adamw_8bit":
        return
    if sharding != "none":
        raise UserError(
            f"optimizer adamw_8bit keeps its states whole on every process and cannot be sharded ({sharding}); launch"
            " with gpu1, gpu8 or gpu2x8, or use optimizer adamw"
        )
    _adamw_8bit(device)


def _groups(parameters: Iterable[nn.Parameter], learning_rate: float) -> list[dict[str, Any]]:
    """Return one parameter group per factor of the learning rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    for weight in parameters:
        groups.setdefault(getattr(weight, "rate_factor", 1.0), []).append(weight)
    return [{"params": weights, "lr": learning_rate * factor} for factor, weights in groups.items()]


def _adamw_8bit(device: torch.device) -> Any:
    """Return the AdamW class of bitsandbytes (Dettmers et al. 2022)."""
    if device.type != "cuda":
        raise UserError(f"optimizer adamw_8bit needs CUDA, found {device.type}; use optimizer adamw")
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"optimizer adamw_8bit needs the package bitsandbytes ({error}); install it, or use optimizer adamw"
        ) from error
    return bitsandbytes.optim.AdamW8bit
