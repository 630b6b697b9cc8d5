"""How trained weights and their optimiser lie on the processes: replicas, FSDP2 shards, or DeepSpeed ZeRO-2.

All three take and give whole tensors, so that a run may go on with another number or kind of processes. FSDP2 keeps all
trained weights in one group: they are gathered once per step, gradients and optimiser states stay sharded, and the
forward pass may use any part of the objective in any order, as Siamese-Diffusion's does.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipeline.core.contracts import Recipe
from pipeline.core.runtime import Runtime
from pipeline.training import optimizers


class Layout(Protocol):
    """An objective and its optimiser, laid out over the processes."""

    wrapped: Callable[..., dict[str, Tensor]]  # the objective, to be called in training
    weights: list[nn.Parameter]
    optimizer: torch.optim.Optimizer

    def exchanging(self, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward: processes exchange gradients with the last micro-batch only."""
        ...

    def backward(self, loss: Tensor) -> None: ...

    def update(self) -> None:
        """Clips the gradients' common norm, makes an optimiser step, forgets the gradients."""
        ...

    def whole(self) -> AbstractContextManager[Any]:
        """All processes enter together; within, the objective holds whole weights and may be used as it is."""
        ...

    def settle(self) -> None:
        """Leaves the objective whole for good, as an ordinary module; training is over."""
        ...

    def collected(self, values: Any) -> Any:
        """A nest of dicts and lists whose sharded tensors are gathered for the main process; all call it together."""
        ...

    def state(self) -> dict[str, Any]:
        """The optimiser's state in whole tensors, for the main process; all processes call it together."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts back what `state` gave, in a run of any layout."""
        ...

    def dealt(self, values: list[Tensor]) -> list[Tensor]:
        """Whole tensors, one per weight, laid out as the weights are."""
        ...


def lay_out(objective: nn.Module, recipe: Recipe, runtime: Runtime) -> Layout:
    """Lays a float32 objective out as the launch asks (configs/accelerate). Raises UserError where that cannot be."""
    if runtime.sharding == "zero2":
        from pipeline.training.deepspeed import Zero

        return Zero(objective, recipe, runtime)
    return Shards(objective, recipe, runtime) if runtime.sharding == "fsdp2" else Replicas(objective, recipe, runtime)


def trained(objective: nn.Module) -> list[nn.Parameter]:
    """The parameters that are trained, in a fixed order."""
    return [weight for weight in objective.parameters() if weight.requires_grad]


def clip(weights: list[nn.Parameter], recipe: Recipe) -> None:
    """Cuts off the gradients' numbers, or their common norm, as the recipe asks."""
    if recipe.max_grad_value is not None:
        nn.utils.clip_grad_value_(weights, recipe.max_grad_value)
    if recipe.max_grad_norm is not None:
        nn.utils.clip_grad_norm_(weights, recipe.max_grad_norm)


class Replicas:
    """Each process holds everything; gradients are averaged while they are computed (DDP), or there is one process."""

    def __init__(self, objective: nn.Module, recipe: Recipe, runtime: Runtime) -> None:
        self.alone = runtime.world == 1
        self.wrapped: Any = objective if self.alone else _distributed(objective, runtime)
        self.weights, self.recipe = trained(objective), recipe
        self.optimizer = optimizers.build(recipe, self.weights, runtime.device)

    def exchanging(self, last: bool) -> AbstractContextManager[Any]:
        """DDP averages in the backward pass unless told not to."""
        return nullcontext() if last or self.alone else self.wrapped.no_sync()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def update(self) -> None:
        """As in the protocol."""
        clip(self.weights, self.recipe)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def whole(self) -> AbstractContextManager[Any]:
        """Replicas are whole."""
        return nullcontext()

    def settle(self) -> None:
        """Replicas are whole."""

    def collected(self, values: Any) -> Any:
        """As it is."""
        return values

    def state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def restore(self, state: Mapping[str, Any]) -> None:
        self.optimizer.load_state_dict(dict(state))

    def dealt(self, values: list[Tensor]) -> list[Tensor]:
        """As they are."""
        return values


def _distributed(objective: nn.Module, runtime: Runtime) -> nn.Module:
    devices = [runtime.device] if runtime.device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(objective, devices, gradient_as_bucket_view=True)


class Shards:
    """FSDP2: each process holds its share of weights between steps, and of gradients and optimiser states always."""

    def __init__(self, objective: nn.Module, recipe: Recipe, runtime: Runtime) -> None:
        from torch.distributed.fsdp import fully_shard
        from torch.distributed.tensor import DTensor

        mesh = torch.distributed.init_device_mesh(runtime.device.type, (runtime.world,))
        self.wrapped: Any = fully_shard(objective, mesh=mesh, reshard_after_forward=False)
        self.weights, self.recipe = trained(objective), recipe
        self.optimizer = optimizers.build(recipe, self.weights, runtime.device)
        self.sharded, self.runtime = DTensor, runtime

    @contextmanager
    def exchanging(self, last: bool) -> Iterator[None]:
        """Gradients of all micro-batches but the last stay whole and unexchanged."""
        self.wrapped.set_requires_gradient_sync(last)
        yield

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def update(self) -> None:
        """As in the protocol."""
        clip(self.weights, self.recipe)
        self.optimizer.step()
        self.optimizer.zero_grad()

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Gathers the weights, and gives them back to their processes."""
        self.wrapped.unshard()
        try:
            yield
        finally:
            self.wrapped.reshard()

    def settle(self) -> None:
        """Puts whole tensors in place of the shards; the state dicts of an unsharded FSDP2 module would be sharded."""
        for module in list(self.wrapped.modules()):
            for name, weight in list(module.named_parameters(recurse=False)):
                full = weight.detach().full_tensor() if isinstance(weight, self.sharded) else weight.detach()
                module._parameters[name] = nn.Parameter(full, weight.requires_grad)

    def collected(self, values: Any) -> Any:
        """Whole tensors on the CPU of the main process; the others only help to gather them."""
        if isinstance(values, self.sharded):
            full = values.full_tensor()
            return full.cpu() if self.runtime.is_main else full.new_zeros(())
        if isinstance(values, dict):
            return {name: self.collected(value) for name, value in values.items()}
        return [self.collected(value) for value in values] if isinstance(values, list) else values

    def state(self) -> dict[str, Any]:
        return self.collected(self.optimizer.state_dict())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Deals each whole tensor out as the weight is that it belongs to; counters stay as they are."""
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        dealt = {
            index: {name: self._share(value, weights[index]) for name, value in one.items()}
            for index, one in state["state"].items()
        }
        self.optimizer.load_state_dict({"state": dealt, "param_groups": state["param_groups"]})

    def dealt(self, values: list[Tensor]) -> list[Tensor]:
        """Each process's shares."""
        return [self._share(value, weight) for value, weight in zip(values, self.weights, strict=True)]

    def _share(self, value: Tensor, weight: Any) -> Tensor:
        from torch.distributed.tensor import distribute_tensor

        if value.shape != weight.shape:
            return value
        return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)
