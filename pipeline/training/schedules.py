"""The learning rate of recipes over their steps."""

import math
from typing import Any

import torch
from torch.optim import lr_scheduler

from pipeline.core.recipes import Recipe, WarmUpRecipe


def build(optimizer: torch.optim.Optimizer, recipe: Recipe) -> Any:
    """Return the scheduler of a recipe; that of `plateau` takes a measure at each step, the others nothing."""
    length = recipe.schedule_steps or recipe.max_steps
    if recipe.schedule == "one_cycle":
        total, rates = max(length, 4), [group["lr"] for group in optimizer.param_groups]
        rise = 0.11 if total == 10 else 0.1  # torch divides by rise * total - 1, the last step of the rise
        return lr_scheduler.OneCycleLR(optimizer, rates, total_steps=total, pct_start=rise, cycle_momentum=False)
    if recipe.schedule == "halved":
        steps = [round(share * length) for share in recipe.milestones]
        return lr_scheduler.MultiStepLR(optimizer, steps, gamma=0.5)
    if recipe.schedule == "warmup_cosine":
        assert recipe.warm_up is not None
        warm_up, peak = recipe.warm_up, recipe.learning_rate
        return lr_scheduler.LambdaLR(optimizer, lambda step: warm_up_rate(step, warm_up, peak, length) / peak)
    if recipe.schedule == "plateau":
        assert recipe.plateau is not None
        mode, rule = "max" if recipe.plateau.every is None else "min", recipe.plateau
        return lr_scheduler.ReduceLROnPlateau(optimizer, mode, factor=rule.factor, patience=rule.patience)
    end = 1e-2 if recipe.schedule == "linear" else 1.0
    return lr_scheduler.LinearLR(optimizer, 1.0, end, total_iters=length)


def warm_up_rate(step: int, warm_up: WarmUpRecipe, peak: float, length: int) -> float:
    """Return the rate of a step, counted from 0, of a schedule of `length` steps.

    It is that of optax.warmup_cosine_decay_schedule.
    """
    if step < warm_up.steps:
        return warm_up.first_rate + (peak - warm_up.first_rate) * step / warm_up.steps
    span = max((warm_up.decay_steps or length) - warm_up.steps, 1)
    share = min((step - warm_up.steps) / span, 1.0)
    return warm_up.last_rate + (peak - warm_up.last_rate) * (1 + math.cos(math.pi * share)) / 2
