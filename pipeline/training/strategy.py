"""A strategy lays trained weights and their optimiser out over the processes; this one keeps them whole on each.

All strategies take and give full tensors, so that a run may go on with another number or kind of processes.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.training import optimizers
from pipeline.training.adversary import adversary_weights


class Strategy:
    """An objective and its optimiser, replicated on every process: DDP, or a process on its own."""

    wrapped: Callable[..., dict[str, Tensor]]  # the objective, to be called in training
    weights: list[nn.Parameter]
    optimizer: torch.optim.Optimizer

    def __init__(self, objective: nn.Module, recipe: Recipe, runtime: Runtime) -> None:
        self.recipe, self.runtime = recipe, runtime
        self.wrapped = self._wrap(objective)
        self.weights = trainable_parameters(objective)
        self.optimizer = optimizers.build(recipe, self.weights, runtime.device)

    def _wrap(self, objective: nn.Module) -> Any:
        if self.runtime.world == 1:
            return objective
        devices = [self.runtime.device] if self.runtime.device.type == "cuda" else None
        idle = self.recipe.adversary is not None  # until the first loss reaches it
        return nn.parallel.DistributedDataParallel(
            objective, devices, gradient_as_bucket_view=True, find_unused_parameters=idle
        )

    def no_sync(self, enabled: bool) -> AbstractContextManager[Any]:
        """Within, where enabled, forward and backward exchange no gradients: of all micro-batches but the last."""
        wrapped: Any = self.wrapped
        return wrapped.no_sync() if enabled and self.runtime.world > 1 else nullcontext()

    def share(self, samples: int, whole: int) -> float:
        """Return the factor of the mean loss of a micro-batch of so many `samples` of the `whole` batch."""
        return samples / whole

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        loss.backward()

    def step(self) -> None:
        """Clip the gradients, make an optimiser step, set the gradients to zero."""
        clip(self.weights, self.recipe)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def full_params(self) -> AbstractContextManager[Any]:
        """Within, the objective holds full weights, an ordinary module; all processes enter together."""
        return nullcontext()

    def unshard(self) -> None:
        """Leave full weights in the objective, an ordinary module again; training is over."""

    def gather(self, values: Any) -> Any:
        """Return a nest of dicts and lists with full tensors on the main process; all processes call it together."""
        return values

    def shard(self, values: list[Tensor]) -> list[Tensor]:
        """Return full tensors, one per weight, laid out as the weights are."""
        return values

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimiser's state in full tensors, on the main process; all processes call it together."""
        return self.optimizer.state_dict()

    def load_optimizer_state(self, state: Mapping[str, Any]) -> None:
        """Load what `optimizer_state` of any strategy returned, in any memory format."""
        optimizers.load_state(self.optimizer, state)


def trainable_parameters(objective: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that are trained, those of an adversary left out, in a fixed order."""
    others = {id(weight) for weight in adversary_weights(objective)}
    return [weight for weight in objective.parameters() if weight.requires_grad and id(weight) not in others]


def clip(weights: list[nn.Parameter], recipe: Recipe) -> None:
    """Clip the gradients by value, by their common norm, or not at all, as the recipe asks."""
    if recipe.max_grad_value is not None:
        nn.utils.clip_grad_value_(weights, recipe.max_grad_value)
    if recipe.max_grad_norm is not None:
        nn.utils.clip_grad_norm_(weights, recipe.max_grad_norm)
