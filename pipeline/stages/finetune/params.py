"""The sections `finetune` and `generators` of a study: how generators are trained on the base, and which."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_serializer, model_validator
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from pipeline.core.pair_limit import UNUSED, Limited
from pipeline.core.privacy import Privacy
from pipeline.core.section import MethodEntry, Section


class Finetune(Section):
    """Fine-tuning of generators."""

    max_steps: int = Field(gt=0)
    """Optimiser steps (not micro-batches)."""
    schedule_steps: int | None = Field(default=None, gt=0)
    """Length N of the schedule, which the learning rate and `w_i` = k / N follow; `null` for `max_steps`."""
    global_batch: int = Field(gt=0)
    """Samples per optimiser step over all devices; 48 in the paper."""
    micro_batch: int | None = Field(default=None, gt=0)
    """Samples per device in one forward pass; the rest is accumulated. `null`: as many as fit the GPU, or the whole
    share of a device.
    """
    learning_rate: float = Field(gt=0)
    """Learning rate of AdamW; with `one_cycle` the highest one."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Weight decay of AdamW."""
    schedule: Literal["constant", "one_cycle"] = "constant"
    """Learning rate over the training."""
    max_grad_norm: float | None = Field(default=None, gt=0)
    """Limit to which the norm of the gradient is clipped; `null` for no clipping."""
    flip: bool = False
    """Random horizontal flips of image and mask together. The paper has none."""
    prompt_dropout: float = Field(default=0.05, ge=0, le=1)
    """Share of the prompts that are replaced by the empty one."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the training; `bf16` is autocast, the trained weights stay in float32."""
    tf32: bool = True
    """On CUDA, compute float32 products and convolutions in TF32."""
    attention: Literal["sdpa", "xformers"] = "sdpa"
    """Implementation of attention. `xformers` needs the package and CUDA."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more arithmetic."""
    channels_last: bool = False
    """Memory format of the networks."""
    compile: bool = False
    """Compile the networks with torch.compile. It needs a C++ compiler, or Triton on a GPU."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit` is bitsandbytes' and needs CUDA; the paper has plain AdamW."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of the moving average of the weights that is published; `null`, as in the paper, publishes the last
    weights.
    """
    lora_rank: int | None = Field(default=None, gt=0)
    """Rank of low-rank updates of the attention (LoRA); `null` trains all weights."""
    checkpoint_every: int = Field(default=100, gt=0)
    """Optimiser steps between checkpoints."""
    keep_checkpoints: int = Field(default=1, gt=0)
    """Number of newest checkpoints to keep. With AdamW each takes 12 bytes per trained weight."""
    validate_every: int | None = Field(default=None, gt=0)
    """Optimiser steps between evaluations of the loss on the validation images, with the same noise each time; `null`
    for none.
    """
    sample_every: int | None = Field(default=None, gt=0)
    """Optimiser steps between sample images of eight fixed validation masks; `null` for none."""
    tracker: Literal["none", "tensorboard", "wandb", "mlflow", "dvclive"] = "none"
    """Experiment tracker that receives losses and learning rate, no images. Install its package yourself."""
    snapshots: tuple[int, ...] = ()
    """Optimiser steps whose weights are kept and scored too, for the quality over training."""
    privacy: Privacy | None = None
    """Differentially private fine-tuning, with `lora_rank`; `null` for none."""

    @model_serializer(mode="wrap")
    def _omit_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out `privacy` where it is not used, so that earlier fingerprints stay valid."""
        return {key: value for key, value in handler(self).items() if key != "privacy" or value is not None}

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
COMPOSED = ("copy_paste",)  # of these, the ones that put parts of real images together
FROM_NOTHING = ("seg_guided",)  # trained methods that use no base: neither its latents nor its prompts


class KeepBackground(Section):
    """Drawing lesions into real training images: all but the lesion and a margin stays as it is."""

    placement: Literal["own", "add"] = "own"
    """`own`: the image to which the mask belongs gets a new lesion of the same outline. `add`: another training image
    gets a lesion at a free place.
    """
    margin: float = 0.02
    """Width of the rim around the lesion that is drawn anew too, as a share of the image's side; at least two pixels,
    below 1.
    """
    feather: float = Field(default=0.01, ge=0, le=0.1)
    """Standard deviation of the soft edge inside the margin, as a share of the image's side."""
    lesions: int = Field(default=1, ge=1, le=5)
    """New lesions per image with `placement: add`, as many of them as fit. All but the first follow masks of random
    training images.
    """

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
                f"lesions is {self.lesions}, but placement own draws the lesions of the image; use placement: add"
            )
        return self


class FromImage(Section):
    """Drawing from a real training image under noise (SDEdit, Meng et al. 2022) instead of from noise alone."""

    strength: float
    """Share of the sampling steps that are run, above 0 and at most 1. With 1 next to nothing is left of the image."""

    @field_validator("strength")
    @classmethod
    def strength_is_a_share(cls, value: float) -> float:
        if not 0 < value <= 1:
            raise ValueError(f"strength {value} must be above 0 and at most 1; 0.5 runs half of the sampling steps")
        return value


class Guidance(Section):
    """Guidance of the drawing of one entry, in place of `generate.guidance_scale` at every step."""

    scale: float = Field(gt=1)
    """Factor on the difference between the generator's prediction and the weaker one."""
    snapshot: int | None = Field(default=None, gt=0)
    """A step of `finetune.snapshots` whose weights make the weaker prediction (autoguidance, Karras et al. 2024).
    `null` makes it without the prompt (classifier-free guidance).
    """
    interval: tuple[float, float] = (0.0, 1.0)
    """The part of the noise levels at which guidance acts, from 0 (clean) to 1 (noise), as shares of the training
    timesteps (Kynkäänniemi et al. 2024). Steps outside cost one pass.
    """

    @field_validator("interval")
    @classmethod
    def interval_has_a_length(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] < value[1] <= 1:
            raise ValueError(f"interval {list(value)} must rise and lie between 0 and 1; [0, 1] guides at every step")
        return value


class GeneratorEntry(Limited, MethodEntry):
    """A method, how often each mask is used, and the method's own keys."""

    seed: int = Field(default=0, ge=0)
    """Random stream of this entry's training and drawing. Entries that differ in nothing else show how much chance
    there is in one trained generator.
    """
    learning_rate: float | None = Field(default=None, gt=0)
    """Learning rate of this entry's fine-tuning; `null` for `finetune.learning_rate`. A network that starts from random
    weights needs a higher one than a ControlNet over a trained base.
    """
    privacy: Privacy | None = None
    """Private fine-tuning of this entry; `null` for `finetune.privacy`."""
    pseudo_labels: bool = False
    """Also fine-tune on the images without masks and the masks that `data.unlabelled.pseudo_labels` predicts for them,
    and draw images for these masks too.
    """
    copies: int = Field(gt=0)
    """Images drawn per mask."""
    masks: str = "real"
    """Where the masks of the images come from: a file of `pipeline/methods/masks`."""
    mask_params: dict[str, Any] = Field(default_factory=dict)
    """The keys of that file."""
    count: int | None = Field(default=None, gt=0)
    """Number of masks; `null` for as many as the choice of `masks` has."""
    keep_background: KeepBackground | None = None
    """Draw lesions into real training images; `null` draws every pixel."""
    from_image: FromImage | None = None
    """Start from a real training image under noise (SDEdit); `null` starts from noise alone."""
    control: Literal["mask", "mask_image"] = "mask"
    """What controls drawing: the mask alone, or also the training image that it belongs to (`mask_image`), moved as the
    mask was. Such images are close to copies of the training images.
    """
    image_weight: float | None = Field(default=None, gt=0)
    """Weight of the image's residuals, which are added to those of the mask, with `control: mask_image`; `null` for the
    weight at the end of training.
    """
    guidance: Guidance | None = None
    """Guidance of this entry's drawing; `null` for classifier-free guidance with `generate.guidance_scale`."""

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

    @model_validator(mode="after")
    def pseudo_labels_rest_on_all_pairs(self) -> Self:
        if self.pseudo_labels and self.limit is not None:
            raise ValueError(
                f"limit is {self.limit}, but pseudo_labels come from segmenters that have learnt from all training"
                " pairs; remove one of them"
            )
        return self

    @model_validator(mode="after")
    def one_option_shows_the_image(self) -> Self:
        if self.control == "mask" and self.image_weight is not None:
            raise ValueError(f"image_weight is {self.image_weight}, but only control: mask_image uses it; set both")
        if self.control == "mask_image" and self.needs_real_images:
            other = "keep_background" if self.keep_background is not None else "from_image"
            raise ValueError(f"control: mask_image draws every pixel from noise, so {other} has no place; remove one")
        return self

    @model_serializer(mode="wrap")
    def _omit_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later where it is not used, so that earlier fingerprints stay valid."""
        later = ("keep_background", "from_image", "image_weight", "guidance", "learning_rate", "privacy")
        unused = UNUSED | {"control": "mask", "pseudo_labels": False} | dict.fromkeys(later)
        return {key: value for key, value in handler(self).items() if key not in unused or value != unused[key]}

    def settings(self, common: Finetune) -> Finetune:
        """Return the settings of this entry's fine-tuning: the study's, with the entry's own rate and privacy."""
        own = {"learning_rate": self.learning_rate, "privacy": self.privacy}
        return common.model_copy(update={key: value for key, value in own.items() if value is not None})

    def uses_base(self, name: str) -> bool:
        """Whether the entry with this name needs the base of the study."""
        return self.method_of(name) not in FROM_NOTHING

    def learns_on_base(self, name: str) -> bool:
        """Whether the base of the study is part of what draws the images of the entry with this name."""
        return self.learns(name) and self.uses_base(name)

    def guidance_scale(self, name: str, common: float) -> float:
        """Return the scale of the entry's guidance, whatever guides it: its own, or the `common` one of the study.

        It is 1 where nothing guides, as there is no prompt that could be left out.
        """
        if self.guidance is not None:
            return self.guidance.scale
        return common if self.uses_base(name) else 1.0

    def learns(self, name: str) -> bool:
        """Whether the entry with this name trains a generator; otherwise its images exist, or real ones make them."""
        return self.method_of(name) not in TRAINING_FREE


def rival_generators(generators: Mapping[str, GeneratorEntry]) -> frozenset[str]:
    """Return the entries that put real images together; none where all do, for then the study asks about these.

    Images from outside are no rivals: something drew them.
    """
    found = frozenset(name for name, entry in generators.items() if entry.method_of(name) in COMPOSED)
    return frozenset() if len(found) == len(generators) else found
