"""How an objective is trained: the recipe that `training.loop.fit` follows, and its parts."""

from __future__ import annotations  # a recipe names parts that are defined below it

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """How an objective is trained: optimiser, its schedule, clipping, precision.

    A parameter's attribute `rate_factor`, where it has one, multiplies its learning rate.
    """

    max_steps: int  # optimiser steps
    learning_rate: float
    weight_decay: float = 1e-2
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Literal["constant", "one_cycle", "linear", "halved", "warmup_cosine", "plateau"] = "constant"
    milestones: tuple[float, ...] = ()  # shares of the training after which the rate is halved (schedule halved)
    max_grad_norm: float | None = None
    max_grad_value: float | None = None  # each number of the gradients is cut off there
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast with fp32 master weights
    micro_batch: int | None = None  # samples per forward pass; None: the process's whole share
    checkpoint_every: int | None = None  # optimiser steps; None: no checkpoint
    snapshots: tuple[int, ...] = ()  # optimiser steps after which the trained weights are kept for good
    schedule_steps: int | None = None  # N of progress k / N and of the learning rate; None: max_steps
    keep_checkpoints: int = 1  # the newest so many
    identity: str = ""  # of params, inputs and method; a checkpoint with another one is refused
    optimizer: Literal["adamw", "adamw_8bit", "sgd"] = "adamw"  # training.optimizers.build
    ema_decay: float | None = None  # training.ema.EMA; None: no average
    ema_warmup: Literal["ramp", "none"] | EMAWarmUpRecipe = "ramp"  # how the decay grows to ema_decay
    adversary: AdversaryRecipe | None = None  # of the objective's part `adversary`; None: it has no such part
    warm_up: WarmUpRecipe | None = None  # of schedule warmup_cosine
    plateau: PlateauRecipe | None = None  # of schedule plateau
    privacy: PrivacyRecipe | None = None  # DP-SGD (training.privacy); None: ordinary gradients


@dataclass(frozen=True)
class WarmUpRecipe:
    """A learning rate that rises in a line from `first_rate`, then falls as a cosine to `last_rate`, where it stays."""

    steps: int  # of the line
    first_rate: float
    last_rate: float
    decay_steps: int | None = None  # the step at which the cosine ends, counted from the start; None: the schedule's


@dataclass(frozen=True)
class EMAWarmUpRecipe:
    """A decay of 1 - (1 + e / inv_gamma) ** -power with e = n - after - 1 at update n, up to the given one.

    The rule of the package ema-pytorch. Up to update `after` + 2 the average equals the weights.
    """

    after: int
    inv_gamma: float
    power: float


@dataclass(frozen=True)
class PlateauRecipe:
    """A learning rate that falls by `factor` where a measure has not improved for more than `patience` measurements."""

    factor: float
    patience: int
    every: int | None = None  # steps over which the training loss is averaged; None: the score of the selection


@dataclass(frozen=True)
class AdversaryRecipe:
    """How an objective's adversary is trained, by an AdamW of its own (training.adversary)."""

    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class PrivacyRecipe:
    """DP-SGD (Abadi et al. 2016): gradients are clipped per sample and summed, and noise is added to the sum.

    The standard deviation of the noise is noise_multiplier x max_grad_norm. The sum is divided by the expected size of
    a batch, not by its own.
    """

    noise_multiplier: float
    max_grad_norm: float  # limit of the norm of the gradient of one sample
    expected_batch: int
