"""DeepSpeed's ZeRO stage 2: full weights on each process, gradients and optimiser states partitioned.

Optional: needs the package deepspeed. Its own sharded checkpoints are not used; states are gathered into full tensors.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.core.errors import UserError
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.training import optimizers
from pipeline.training.strategy import Strategy, trainable_parameters

MOMENTS = ("exp_avg", "exp_avg_sq")


class DeepSpeedStrategy(Strategy):
    """An objective and its optimiser in DeepSpeed's engine, which keeps weights full."""

    def __init__(self, objective: nn.Module, recipe: Recipe, runtime: Runtime) -> None:
        deepspeed = _deepspeed()
        self.recipe, self.runtime = recipe, runtime
        self.weights = trainable_parameters(objective)
        self.optimizer = optimizers.build(recipe, self.weights, runtime.device)
        self.groups = [dict(group) for group in self.optimizer.state_dict()["param_groups"]]
        engine, *_ = deepspeed.initialize(model=objective, optimizer=self.optimizer, config=_config(recipe))
        self.wrapped = self.engine = engine

    def no_sync(self, enabled: bool) -> AbstractContextManager[Any]:
        """The engine reduces gradients at the boundary of accumulation only."""
        self.engine.set_gradient_accumulation_boundary(not enabled)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss by the engine."""
        self.engine.backward(loss)

    def step(self) -> None:
        """Clip (the engine was given the norm when it was made), step, and set the gradients to zero."""
        self.engine.step()

    def optimizer_state(self) -> dict[str, Any]:
        """Return AdamW's moments in full tensors, by the index of the weight."""
        from deepspeed.utils import safe_get_full_optimizer_state  # pyright: ignore[reportMissingImports]

        step = next(iter(self.optimizer.state.values()))["step"]
        moments = [
            {name: safe_get_full_optimizer_state(weight, name).cpu() for name in MOMENTS} for weight in self.weights
        ]
        groups = [
            group | {"lr": now["lr"], "initial_lr": now.get("initial_lr", now["lr"])}
            for group, now in zip(self.groups, self.optimizer.param_groups, strict=True)
        ]
        return {"state": {i: {"step": step, **pair} for i, pair in enumerate(moments)}, "param_groups": groups}

    def load_optimizer_state(self, state: Mapping[str, Any]) -> None:
        """Load AdamW's moments and step into the partitions, which have none before the first step."""
        from deepspeed.utils import safe_set_full_optimizer_state  # pyright: ignore[reportMissingImports]

        step = next(iter(state["state"].values()))["step"]
        for flat in (flat for group in self.optimizer.param_groups for flat in group["params"]):
            moments = {name: torch.zeros_like(flat, requires_grad=False) for name in MOMENTS}
            self.optimizer.state[flat] = {"step": step.clone(), **moments}
        self.engine.optimizer._lazy_init_hp_params_optimizer_state()
        for index, saved in state["state"].items():
            weight = self.weights[index]
            for name in MOMENTS:
                safe_set_full_optimizer_state(weight, saved[name].to(weight.device), name)
        for group, saved in zip(self.optimizer.param_groups, state["param_groups"], strict=True):
            group |= {name: value for name, value in saved.items() if name != "params"}


def _deepspeed() -> Any:
    try:
        import deepspeed  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"this launch shards with DeepSpeed, which cannot be imported ({error}); pip install -e '.[deepspeed]', or"
            " launch with gpu8 or gpu8_fsdp2"
        ) from error
    return deepspeed


def _config(recipe: Recipe) -> dict[str, Any]:
    """Return the engine's settings: ZeRO-2, and gradients that the processes exchange in float32, as DDP's do.

    By default DeepSpeed exchanges in bf16 the gradients of modules that it calls safe for autocast: most of a U-Net's.
    """
    return {
        "train_micro_batch_size_per_gpu": 1,  # required by the engine, not used: the loop splits batches itself
        "gradient_accumulation_steps": 1,
        "gradient_clipping": recipe.max_grad_norm or 0.0,
        "zero_optimization": {"stage": 2},
        "zero_allow_untested_optimizer": True,
        "communication_data_type": "fp32",
        "torch_autocast": {
            "enabled": recipe.precision == "bf16",
            "dtype": "bfloat16",
            "lower_precision_safe_modules": [],
        },
    }
