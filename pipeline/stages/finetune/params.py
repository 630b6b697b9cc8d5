"""The sections `finetune` and `generators` of a study: how generators are trained on the base, and which."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_serializer, model_validator
from pydantic_core.core_schema import SerializerFunctionWrapHandler

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


TRAINING_FREE = ("copy_paste", "folder")  # methods that learn nothing
OUTSIDE = ("folder",)  # of these, the ones whose images another program has made; contracts.ImportedImages


class KeepBackground(Section):
    """Drawing lesions into real training images: all but the lesion and a margin stays as it is."""

    placement: Literal["own", "add"] = "own"  # own: the image of the mask itself; add: a free place of another image
    margin: float = 0.02  # share of the side around the lesion that is drawn anew too; at least two pixels
    feather: float = Field(default=0.01, ge=0, le=0.1)  # standard deviation of the soft edge, share of the side
    lesions: int = Field(default=1, ge=1, le=5)  # new ones per image, as many as fit; further masks are training masks

    @field_validator("margin")
    @classmethod
    def margin_fits_into_the_image(cls, value: float) -> float:
        if not 0 <= value < 1:
            fault = "is larger than the image" if value >= 1 else "is negative"
            raise ValueError(f"margin {value} {fault}; it is a share of the image's side, such as 0.02")
        return value

    @model_validator(mode="after")
    def an_own_mask_has_its_own_lesions(self) -> Self:
        if self.placement == "own" and self.lesions > 1:
            raise ValueError(
                f"lesions is {self.lesions}, but placement own draws those of the image; use placement: add"
            )
        return self


class FromImage(Section):
    """Drawing from a real training image under noise (SDEdit, Meng et al. 2022) instead of from noise alone."""

    strength: float  # share of the sampling steps that are run; 1: the image is all but gone

    @field_validator("strength")
    @classmethod
    def strength_is_a_share(cls, value: float) -> float:
        if not 0 < value <= 1:
            raise ValueError(f"strength {value} must be above 0 and at most 1; 0.5 runs half of the sampling steps")
        return value


class GeneratorEntry(MethodEntry):
    """A method, how often each mask is used, and the method's own keys."""

    seed: int = Field(default=0, ge=0)  # entries that differ in it alone show how much chance there is in a generator
    copies: int = Field(gt=0)  # images per mask
    masks: str = "real"  # a file of pipeline/methods/masks
    mask_params: dict[str, Any] = Field(default_factory=dict)  # the keys of that file
    count: int | None = Field(default=None, gt=0)  # masks; None: as many as the file of pipeline/methods/masks gives
    keep_background: KeepBackground | None = None  # None: every pixel is drawn
    from_image: FromImage | None = None  # None: from noise alone

    @property
    def needs_real_images(self) -> bool:
        """Whether training images lend pixels to the images that are drawn."""
        return self.keep_background is not None or self.from_image is not None

    @model_validator(mode="after")
    def own_places_need_own_masks(self) -> Self:
        keep = self.keep_background
        if keep is not None and keep.placement == "own" and self.masks != "real":
            raise ValueError(
                f"keep_background.placement own needs masks: real, found {self.masks!r}; other masks cut the lesions of"
                " their image in part, so use placement: add"
            )
        return self

    @model_serializer(mode="wrap")
    def _omit_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later where it is not used, so that earlier fingerprints stay valid."""
        values = handler(self)
        return {k: v for k, v in values.items() if v is not None or k not in ("keep_background", "from_image")}

    def learns(self, name: str) -> bool:
        """Whether the entry with this name trains a generator; otherwise its images exist, or real ones make them."""
        return self.method_of(name) not in TRAINING_FREE


def rival_generators(generators: Mapping[str, GeneratorEntry]) -> frozenset[str]:
    """Return the entries that put real images together; none where all do, for then the study asks about these.

    Images from outside are no rivals: something drew them.
    """
    found = frozenset(
        name for name, entry in generators.items() if not entry.learns(name) and entry.method_of(name) not in OUTSIDE
    )
    return frozenset() if len(found) == len(generators) else found
