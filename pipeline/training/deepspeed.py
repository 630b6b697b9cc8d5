"""DeepSpeed's ZeRO stage 2: whole weights on each process, gradients and optimiser states partitioned.

Optional: needs the package deepspeed. Its own sharded checkpoints are not used; states are gathered into whole tensors.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.contracts import Recipe
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.training import optimizers

MOMENTS = ("exp_avg", "exp_avg_sq")


class Zero:
    """A layout (sharding.Layout) around DeepSpeed's engine."""

    def __init__(self, objective: nn.Module, recipe: Recipe, runtime: Runtime) -> None:
        deepspeed = _deepspeed()
        self.weights = [weight for weight in objective.parameters() if weight.requires_grad]
        self.optimizer = optimizers.build(recipe, self.weights, runtime.device)
        self.groups = [dict(group) for group in self.optimizer.state_dict()["param_groups"]]
        engine, *_ = deepspeed.initialize(model=objective, optimizer=self.optimizer, config=_config(recipe))
        self.wrapped: Any = engine

    def exchanging(self, last: bool) -> AbstractContextManager[Any]:
        """The engine reduces at the boundary of accumulation."""
        self.wrapped.set_gradient_accumulation_boundary(last)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self.wrapped.backward(loss)

    def update(self) -> None:
        """The engine clips (it was told the norm when it was made), steps and forgets the gradients."""
        self.wrapped.step()

    def whole(self) -> AbstractContextManager[Any]:
        """Stage 2 keeps weights whole."""
        return nullcontext()

    def settle(self) -> None:
        """Stage 2 keeps weights whole."""

    def collected(self, values: Any) -> Any:
        """As it is."""
        return values

    def state(self) -> dict[str, Any]:
        """AdamW's moments in whole tensors, by the place of the weight."""
        from deepspeed.utils import safe_get_full_optimizer_state  # pyright: ignore[reportMissingImports]

        steps = self._steps()
        moments = [
            {name: safe_get_full_optimizer_state(weight, name).cpu() for name in MOMENTS} for weight in self.weights
        ]
        groups = [
            group | {"lr": now["lr"], "initial_lr": now.get("initial_lr", now["lr"])}
            for group, now in zip(self.groups, self.optimizer.param_groups, strict=True)
        ]
        return {"state": {i: {"step": steps, **one} for i, one in enumerate(moments)}, "param_groups": groups}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Puts AdamW's moments and step back into the partitions, which have none before the first step."""
        from deepspeed.utils import safe_set_full_optimizer_state  # pyright: ignore[reportMissingImports]

        step = next(iter(state["state"].values()))["step"]
        for flat in (flat for group in self.optimizer.param_groups for flat in group["params"]):
            moments = {name: torch.zeros_like(flat, requires_grad=False) for name in MOMENTS}
            self.optimizer.state[flat] = {"step": step.clone(), **moments}
        self.wrapped.optimizer._lazy_init_hp_params_optimizer_state()
        for index, one in state["state"].items():
            for name in MOMENTS:
                safe_set_full_optimizer_state(self.weights[index], one[name].to(self.weights[index].device), name)
        for group, saved in zip(self.optimizer.param_groups, state["param_groups"], strict=True):
            group |= {name: value for name, value in saved.items() if name != "params"}

    def dealt(self, values: list[Tensor]) -> list[Tensor]:
        """As they are."""
        return values

    def _steps(self) -> Any:
        return next(iter(self.optimizer.state.values()))["step"]


def _deepspeed() -> Any:
    try:
        import deepspeed  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"this launch shards with DeepSpeed, which cannot be imported ({error}); install deepspeed, or launch with"
            " gpu8 or gpu8_fsdp2"
        ) from error
    return deepspeed


def _config(recipe: Recipe) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": 1,  # batches are dealt by the loop; this number is told, not used
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.max_grad_norm or 0.0,
        "zero_optimization": {"stage": 2},
        "zero_allow_untested_optimizer": True,
        "torch_autocast": {"enabled": recipe.precision == "bf16", "dtype": "bfloat16"},
    }
