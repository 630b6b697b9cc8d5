"""The optimisers of recipes: AdamW, AdamW with 8-bit states, and SGD with Nesterov momentum."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.core.recipes import Recipe

MOMENTUM = 0.9  # of SGD


def build(recipe: Recipe, parameters: Iterable[nn.Parameter], device: torch.device) -> torch.optim.Optimizer:
    """Build the recipe's optimiser, fused where it can be. Raises UserError where 8-bit states are not available."""
    settings: dict[str, Any] = {"lr": recipe.learning_rate, "weight_decay": recipe.weight_decay}
    groups = _groups(parameters, recipe.learning_rate)
    if recipe.optimizer == "adamw_8bit":
        return _adamw_8bit(device)(groups, betas=recipe.betas, **settings)
    if device.type in ("cpu", "cuda"):
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


def load_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state whose moments may lie in another memory format than the weights that they belong to.

    Moments take the strides of their weights: a fused step refuses others. Raises UserError where they are 8-bit and
    would have to be laid out anew: their scales belong to stretches of memory.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    moments = {
        index: {name: _laid_out_as(weights[index], value) for name, value in named.items()}
        for index, named in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": moments})


def _laid_out_as(weight: nn.Parameter, value: Any) -> Any:
    if not isinstance(value, Tensor) or value.shape != weight.shape or value.stride() == weight.stride():
        return value
    if not value.is_floating_point() and _order(value) != _order(weight):
        raise UserError(
            "the checkpoint's 8-bit moments have another memory format than the weights; resume with the value of"
            " channels_last that it was made with, or remove the checkpoints to start again"
        )
    return torch.empty_like(weight, dtype=value.dtype, device=value.device, requires_grad=False).copy_(value)


def _order(values: Tensor) -> list[int]:
    """Return the strides of the dimensions that have more than one element."""
    return [stride for stride, size in zip(values.stride(), values.shape, strict=True) if size > 1]


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
