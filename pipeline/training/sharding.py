"""Which strategy a launch or recipe asks for: replicas (DDP), FSDP2 shards, DeepSpeed ZeRO-2; or DP-SGD."""

from torch import nn

from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.training.strategy import Strategy


def build_strategy(objective: nn.Module, recipe: Recipe, runtime: Runtime) -> Strategy:
    """Lay a float32 objective out as the launch asks (configs/accelerate). Raises UserError where that cannot be."""
    if recipe.privacy is not None:
        from pipeline.training.privacy import PrivateStrategy

        return PrivateStrategy(objective, recipe, runtime)
    if runtime.sharding == "zero2":
        from pipeline.training.deepspeed import DeepSpeedStrategy

        return DeepSpeedStrategy(objective, recipe, runtime)
    if runtime.sharding == "fsdp2":
        from pipeline.training.fsdp import FSDPStrategy

        return FSDPStrategy(objective, recipe, runtime)
    return Strategy(objective, recipe, runtime)
