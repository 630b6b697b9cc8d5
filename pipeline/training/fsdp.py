"""FSDP2: each process holds its shard of the weights between steps, and of gradients and optimiser states always.

All trained weights form one group: they are gathered once per step, gradients and optimiser states stay sharded, and
the forward pass may use any part of the objective in any order, as Siamese-Diffusion's does.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.training.strategy import Strategy


class FSDPStrategy(Strategy):
    """An objective and its optimiser, sharded over the processes."""

    def _wrap(self, objective: nn.Module) -> Any:
        from torch.distributed.fsdp import fully_shard

        for weight in objective.parameters():  # FSDP takes no other memory format
            weight.data = weight.data.contiguous()
        mesh = torch.distributed.init_device_mesh(self.runtime.device.type, (self.runtime.world,))
        self.sharded: Any = fully_shard(objective, mesh=mesh, reshard_after_forward=False)
        return self.sharded

    @contextmanager
    def no_sync(self, enabled: bool) -> Iterator[None]:
        """Within, where enabled, gradients stay full and are not exchanged."""
        self.sharded.set_requires_gradient_sync(not enabled)
        yield

    @contextmanager
    def full_params(self) -> Iterator[None]:
        """Within, the weights are gathered; afterwards they are sharded again."""
        self.sharded.unshard()
        try:
            yield
        finally:
            self.sharded.reshard()

    def unshard(self) -> None:
        """Replace the shards by full tensors; the state dict of an FSDP2 module after `unshard` would be sharded."""
        for module in list(self.sharded.modules()):
            for name, weight in list(module.named_parameters(recurse=False)):
                full = weight.detach().full_tensor() if _is_sharded(weight) else weight.detach()
                module._parameters[name] = nn.Parameter(full, weight.requires_grad)

    def gather(self, values: Any) -> Any:
        """Return full tensors on the CPU of the main process; the others only help to gather them."""
        if _is_sharded(values):
            full = values.full_tensor()
            return full.cpu() if self.runtime.is_main else full.new_zeros(())
        if isinstance(values, dict):
            return {name: self.gather(value) for name, value in values.items()}
        return [self.gather(value) for value in values] if isinstance(values, list) else values

    def shard(self, values: list[Tensor]) -> list[Tensor]:
        """Return this process's shards."""
        return [_shard(value, weight) for value, weight in zip(values, self.weights, strict=True)]

    def optimizer_state(self) -> dict[str, Any]:
        """Return the gathered state."""
        return self.gather(self.optimizer.state_dict())

    def load_optimizer_state(self, state: Mapping[str, Any]) -> None:
        """Shard each tensor as the weight that it belongs to; counters are loaded as they are."""
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        sharded = {
            index: {name: _shard(value, weights[index]) for name, value in moments.items()}
            for index, moments in state["state"].items()
        }
        self.optimizer.load_state_dict({"state": sharded, "param_groups": state["param_groups"]})


def _is_sharded(value: Any) -> bool:
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def _shard(value: Tensor, weight: Any) -> Tensor:
    from torch.distributed.tensor import distribute_tensor

    if value.shape != weight.shape:
        return value
    return distribute_tensor(value.to(weight.device).contiguous(), weight.device_mesh, weight.placements)
