"""The optimisers of recipes: AdamW, and AdamW with states of 8 bits."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from pipeline.contracts import Recipe
from pipeline.errors import UserError


def build(recipe: Recipe, parameters: Iterable[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """The recipe's optimiser; on CUDA one kernel for all weights. Raises UserError where 8 bits are not usable."""
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "betas": recipe.betas, "weight_decay": recipe.weight_decay}
    if recipe.optimizer == "adamw_8bit":
        return _eight_bit(device)(list(parameters), **settings)
    if device.type == "cuda":
        settings["fused"] = True
    return torch.optim.AdamW(list(parameters), **settings)


def _eight_bit(device: torch.device) -> Any:
    """AdamW of bitsandbytes (Dettmers et al. 2022)."""
    if device.type != "cuda":
        raise UserError(f"optimizer adamw_8bit needs CUDA, found {device.type}; use optimizer adamw")
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"optimizer adamw_8bit needs the package bitsandbytes ({error}); install it, or use optimizer adamw"
        ) from error
    return bitsandbytes.optim.AdamW8bit
