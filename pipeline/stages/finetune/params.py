"""The sections `finetune` and `generators` of a study: how generators are trained on the base, and which."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.section import MethodEntry, Section


class Finetune(Section):
    """Fine-tuning of generators."""

    max_steps: int = Field(gt=0)  # optimiser steps, not micro-batches
    schedule_steps: int | None = Field(default=None, gt=0)  # N of w_i = k / N and of the learning rate; None: max_steps
    global_batch: int = Field(gt=0)  # samples per optimiser step over all devices; 48 in the paper
    micro_batch: int | None = Field(default=None, gt=0)  # samples per device and forward pass; None: no accumulation
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    schedule: Literal["constant", "one_cycle"] = "constant"
    max_grad_norm: float | None = Field(default=None, gt=0)
    flip: bool = False  # random horizontal flips of image and mask together; the paper has none
    prompt_dropout: float = Field(default=0.05, ge=0, le=1)  # share of empty prompts
    precision: Literal["fp32", "bf16"] = "fp32"  # bf16: autocast, trained weights stay in float32
    tf32: bool = True  # on CUDA: float32 products and convolutions in TF32
    attention: Literal["sdpa", "xformers"] = "sdpa"  # xformers: needs the package and CUDA
    gradient_checkpointing: bool = False  # less memory, about a third more arithmetic
    channels_last: bool = False  # memory format of the networks
    compile: bool = False  # torch.compile of the networks; needs a C++ compiler, or Triton on a GPU
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"  # adamw_8bit: bitsandbytes, CUDA only; not the paper's
    ema_decay: float | None = Field(default=None, gt=0, lt=1)  # moving average of the weights; None as in the paper
    lora_rank: int | None = Field(default=None, gt=0)  # low-rank updates of the attention; None: all weights
    checkpoint_every: int = Field(default=100, gt=0)  # optimiser steps
    keep_checkpoints: int = Field(default=1, gt=0)  # the newest so many; with AdamW one is 12 bytes per trained weight
    validate_every: int | None = Field(default=None, gt=0)  # optimiser steps; loss of the split val, fixed noise
    sample_every: int | None = Field(default=None, gt=0)  # optimiser steps; images of eight fixed masks of val
    tracker: Literal["none", "tensorboard", "wandb", "mlflow", "dvclive"] = "none"  # losses, for watching; no images
    snapshots: tuple[int, ...] = ()  # optimiser steps whose weights are kept and scored too, for quality over training

    @model_validator(mode="after")
    def schedule_is_not_cut_off(self) -> Self:
        if self.schedule_steps is not None and self.schedule_steps > self.max_steps:
            raise ValueError(
                f"schedule_steps {self.schedule_steps} exceeds max_steps {self.max_steps}: the run would end before its"
                " schedule; raise max_steps"
            )
        return self

    @model_validator(mode="after")
    def snapshots_lie_inside(self) -> Self:
        wrong = [step for step in self.snapshots if not 0 < step < self.max_steps]
        if wrong:
            raise ValueError(f"snapshots {wrong} do not lie between 0 and max_steps {self.max_steps}")
        return self


TRAINING_FREE = ("copy_paste",)  # methods that learn nothing; contracts.TrainingFreeGenerator


class GeneratorEntry(MethodEntry):
    """A method, how often each mask is used, and the method's own keys."""

    seed: int = Field(default=0, ge=0)  # entries that differ in it alone show how much chance there is in a generator
    copies: int = Field(gt=0)  # images per mask
    masks: str = "real"  # a file of pipeline/methods/masks
    mask_params: dict[str, Any] = Field(default_factory=dict)  # the keys of that file
    count: int | None = Field(default=None, gt=0)  # masks; None: as many as the file of pipeline/methods/masks gives

    def learns(self, name: str) -> bool:
        """Whether the entry with this name trains a generator; otherwise its images are put together from real ones."""
        return self.method_of(name) not in TRAINING_FREE


def rival_generators(generators: Mapping[str, GeneratorEntry]) -> frozenset[str]:
    """Return the entries that learn nothing; none where no entry learns, for then the study asks about these."""
    found = frozenset(name for name, entry in generators.items() if not entry.learns(name))
    return frozenset() if len(found) == len(generators) else found
