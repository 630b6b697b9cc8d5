"""The adversary of an objective: a part of it, such as a discriminator, that an optimiser of its own trains."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from pipeline.core.errors import UserError
from pipeline.core.recipes import AdversaryRecipe, Recipe
from pipeline.core.runtime import Runtime


class AdversaryOptimizer:
    """AdamW over the weights of `objective.adversary`, at a constant rate.

    The adversary's gradients come from the same backward pass as the objective's, so both make their steps against each
    other's weights of before. A weight that no loss has reached yet is left alone.
    """

    def __init__(self, objective: nn.Module, recipe: AdversaryRecipe, device: torch.device) -> None:
        settings: dict[str, Any] = {"lr": recipe.learning_rate, "betas": recipe.betas}
        if device.type == "cuda":
            settings["fused"] = True
        self.optimizer = torch.optim.AdamW(adversary_weights(objective), **settings)

    def step(self) -> None:
        """Make an optimiser step and set the gradients to zero."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that a resumed run needs beside the weights."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned."""
        self.optimizer.load_state_dict(dict(state))


def adversary_weights(objective: Any) -> list[nn.Parameter]:
    """Return the weights of an objective's adversary, in a fixed order; none where it has no adversary."""
    adversary: nn.Module | None = getattr(objective, "adversary", None)
    return [] if adversary is None else list(adversary.parameters())


def check(recipe: Recipe, runtime: Runtime) -> None:
    """Raise UserError where an adversary cannot be trained under this launch."""
    if recipe.adversary is not None and runtime.sharding != "none":
        raise UserError(
            f"a discriminator is kept whole on every process and cannot be sharded ({runtime.sharding}); launch with"
            " cpu, cpu2, gpu1 or gpu8"
        )
