"""The sections `segment` and `segmenters` of a study: how segmenters are trained and scored, and which."""

import math
from collections.abc import Collection
from enum import Enum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.errors import UserError
from pipeline.core.section import MethodEntry, Section, parse


class Mark(Enum):
    """What a field of Segment has a say in, for fingerprints; a field without a mark changes the trained weights."""

    SCORES = "scores"  # changes scores but no weight
    SUMMARY = "summary"  # changes neither: which seeds are run, what is kept, how scores are summarised
    OMIT_DEFAULT = "omit_default"  # came later: left out at its default, so that earlier fingerprints stay valid


SELECTION = ("select_every", "select_images", "patience", "min_delta")  # fields that only select: best has


class WarmUp(Section):
    """The learning rate of schedule warmup_cosine: up to `learning_rate` in a line, then down as a cosine."""

    steps: int = Field(gt=0)
    """Optimiser steps of the rising line."""
    first_rate: float = Field(default=0.0, ge=0)
    """Learning rate of the first step."""
    last_rate: float = Field(default=0.0, ge=0)
    """Learning rate at the end of the cosine and after it."""
    decay_steps: int | None = Field(default=None, gt=0)
    """Optimiser step, counted from the start, at which the cosine ends; `null`: with the training."""

    @model_validator(mode="after")
    def the_cosine_ends_after_the_line(self) -> Self:
        if self.decay_steps is not None and self.decay_steps <= self.steps:
            raise ValueError(f"decay_steps is {self.decay_steps}; it must be above steps ({self.steps})")
        return self


class EMAWarmUp(Section):
    """A moving average whose decay grows: after the step `after` as 1 - (1 + n / inv_gamma) ** -power over n steps."""

    after: int = Field(default=0, ge=0)
    """Optimiser steps up to which the average equals the weights."""
    inv_gamma: float = Field(default=1.0, gt=0)
    """Number of steps that counts as one."""
    power: float = Field(gt=0)
    """How fast the decay approaches 1."""


class Plateau(Section):
    """The learning rate of schedule plateau: lower where the training makes no progress (ReduceLROnPlateau)."""

    factor: float = Field(default=0.5, gt=0, lt=1)
    """Factor on the learning rate each time."""
    patience: int = Field(default=10, ge=0)
    """Measurements in a row without progress that do not lower the rate yet."""
    every: int | None = Field(default=None, gt=0)
    """Optimiser steps over which the training loss is averaged for one measurement; `null`: the Dice on validation
    images at each evaluation of `select: best`.
    """


class Segment(Section):
    """Training of segmenters: the same for every training set; an entry of `segmenters` may override values."""

    max_steps: int | None = Field(default=None, gt=0)
    """Optimiser steps of a training, equal for every arm. Give this or `epochs`."""
    epochs: int | None = Field(default=None, gt=0)
    """Passes over the training set, instead of `max_steps`: an arm with more images is then trained for more steps."""
    batch_size: int = Field(gt=0)
    """Images per optimiser step."""
    learning_rate: float = Field(gt=0)
    """Learning rate; with `one_cycle` and `halved` the highest one."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Weight decay of the optimiser."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """`sgd` has Nesterov momentum of 0.9."""
    schedule: Literal["one_cycle", "constant", "halved", "warmup_cosine", "plateau"] = "one_cycle"
    """Learning rate over the training: one cycle, constant, halved after each of `milestones`, a warm-up and a cosine
    (`warm_up`), or lower wherever the training makes no progress (`plateau`).
    """
    milestones: tuple[float, ...] = ()
    """With `schedule: halved`: shares of the training after which the rate is halved."""
    warm_up: Annotated[WarmUp | None, Mark.OMIT_DEFAULT] = None
    """With `schedule: warmup_cosine`: its steps and rates."""
    plateau: Annotated[Plateau | None, Mark.OMIT_DEFAULT] = None
    """With `schedule: plateau`: when and by how much the rate falls; `null` for the defaults."""
    max_grad_value: float | None = Field(default=None, gt=0)
    """Limit to which every element of the gradient is clipped; `null` for no clipping."""
    max_grad_norm: Annotated[float | None, Mark.OMIT_DEFAULT] = Field(default=None, gt=0)
    """Limit to which the norm of the whole gradient is clipped; `null` for no clipping."""
    encoder_rate: float = Field(default=1.0, gt=0)
    """Factor on the learning rate of the encoder."""
    betas: Annotated[tuple[float, float], Mark.OMIT_DEFAULT] = (0.9, 0.999)
    """The two decay rates of AdamW's moments."""
    ema_decay: Annotated[float | None, Mark.OMIT_DEFAULT] = Field(default=None, gt=0, lt=1)
    """Decay of the moving average of the weights that is kept; `null` keeps the last weights."""
    ema_warmup: Annotated[Literal["ramp", "none"] | EMAWarmUp, Mark.OMIT_DEFAULT] = "ramp"
    """How the decay grows to `ema_decay`: at step n it is at most (1 + n) / (10 + n) (`ramp`), it is `ema_decay` from
    the first step on (`none`), or it follows the rule of the package ema-pytorch (a mapping).
    """
    select: Annotated[Literal["last", "best"], Mark.OMIT_DEFAULT] = "last"
    """Weights that are kept and scored: those after the last step, or those with the highest Dice on validation images
    among the weights of every `select_every` steps and the last. Test images are never looked at.
    """
    select_every: Annotated[int | None, Mark.OMIT_DEFAULT] = Field(default=None, gt=0)
    """With `select: best`: optimiser steps between two evaluations on validation images."""
    select_images: Annotated[int | None, Mark.OMIT_DEFAULT] = Field(default=None, ge=1)
    """With `select: best`: largest number of validation images in each evaluation; `null` for all."""
    patience: Annotated[int | None, Mark.OMIT_DEFAULT] = Field(default=None, gt=0)
    """With `select: best`: training stops after so many evaluations in a row that do not raise the best Dice by more
    than `min_delta`; `null` never stops it.
    """
    min_delta: Annotated[float, Mark.OMIT_DEFAULT] = Field(default=0.0, ge=0)
    """With `patience`: rise of Dice that counts as progress."""
    augment: Annotated[Literal["own", "strong"], Mark.OMIT_DEFAULT] = "own"
    """`own`: the segmenter's own flips and quarter turns. `strong`: photometric, affine and elastic changes after
    these. A training set may choose for itself.
    """
    seeds: Annotated[tuple[int, ...], Mark.SUMMARY] = Field(min_length=1)
    """One model is trained per seed, segmenter and training set. A verdict needs three or more."""
    threads: int | None = Field(default=None, gt=0)
    """Threads of each process that trains segmenters; `null` for the `threads` of the study."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the training; `bf16` is autocast over float32 weights."""
    checkpoint_every: Annotated[int | None, Mark.SUMMARY] = Field(default=None, gt=0)
    """Optimiser steps between checkpoints, from which a killed training resumes; `null`: it starts again."""
    keep: Annotated[Literal["none", "best_seed", "all"], Mark.SUMMARY] = "none"
    """Trained segmenters to publish: none, per arm the seed with the best Dice on validation images, or all."""
    resolution: Annotated[Literal["training", "native"], Mark.SCORES] = "training"
    """Size at which predictions are scored: that of training, or each image's own (`native`, which needs
    `data.native_masks: true`).
    """
    nsd_tolerance: Annotated[float, Mark.SCORES] = Field(default=0.01, gt=0, lt=1)
    """Tolerance of the surface Dice (NSD) of pictures, as a share of the image's diagonal."""
    spacing: Annotated[tuple[float, float] | None, Mark.SCORES] = None
    """Height and width in mm of a pixel of the original image, with `resolution: native`. HD95 is then in mm, otherwise
    in pixels.
    """
    unseen: Annotated[tuple[str, ...], Mark.SUMMARY] = ()
    """Test sets (sources) without any training image. The summary averages them apart from the others."""
    small_lesion: Annotated[float, Mark.SUMMARY] = Field(default=0.05, gt=0, lt=1)
    """Share of the image below which a lesion counts as small."""
    num_samples: Annotated[int, Mark.SCORES, Mark.OMIT_DEFAULT] = Field(default=1, ge=1)
    """Masks that a stochastic segmenter draws per scored image."""
    level_sets: Annotated[bool, Mark.SCORES, Mark.OMIT_DEFAULT] = False
    """For several raters and two classes: a deterministic segmenter gives `num_samples` level sets of its probability
    map instead of one mask.
    """
    nsd_tolerance_mm: Annotated[float, Mark.SCORES, Mark.OMIT_DEFAULT] = Field(default=1.0, gt=0)
    """Tolerance of the surface Dice (NSD) of volumes, in mm."""
    empty_truth: Annotated[Literal["one", "zero"], Mark.SCORES, Mark.OMIT_DEFAULT] = "one"
    """The score `s_c` where no rater marked anything but a sample did."""
    pair_rule: Annotated[
        Literal["variance", "variance_self", "dice", "size_variance"], Mark.SCORES, Mark.OMIT_DEFAULT
    ] = "variance"
    """Difference of two masks in the score `d_a`: the variance over pixels of A - B (`variance_self`: of a mask and
    itself too), 1 - Dice, or the difference between the variances of A and of B.
    """
    pair_region: Annotated[Literal["image", "union"], Mark.SCORES, Mark.OMIT_DEFAULT] = "image"
    """Pixels over which `pair_rule` takes variances: those of the image, which makes them small for small lesions, or
    those of the bounding box of all masks of raters and samples.
    """
    pooled: Annotated[bool, Mark.SCORES, Mark.OMIT_DEFAULT] = False
    """Also compute sensitivity, specificity and accuracy, for each image and for all pixels of a test set together."""
    region_size: Annotated[bool, Mark.SCORES, Mark.OMIT_DEFAULT] = False
    """Also correlate Dice with the size of the regions. Volumes always have this."""
    trajectory_images: Annotated[int, Mark.SCORES, Mark.OMIT_DEFAULT] = Field(default=64, ge=1)
    """Largest number of test images that are followed over the sampling steps of a diffusion segmenter."""
    watch_every: Annotated[int | None, Mark.SCORES, Mark.OMIT_DEFAULT] = Field(default=None, gt=0)
    """Optimiser steps between evaluations of Dice on validation images; `null` for none."""
    watch_images: Annotated[int, Mark.SCORES, Mark.OMIT_DEFAULT] = Field(default=20, ge=1)
    """Largest number of validation images in each of these evaluations."""
    heatmap_images: Annotated[int, Mark.SCORES, Mark.OMIT_DEFAULT] = Field(default=0, ge=0)
    """Test images with a heatmap of what a segmenter attends to, where the segmenter offers one."""

    @classmethod
    def marked(cls, mark: Mark) -> set[str]:
        """Return the names of the fields with a mark."""
        return {name for name, field in cls.model_fields.items() if mark in field.metadata}

    def training_settings(self) -> dict[str, Any]:
        """Return the fields that change trained weights, for fingerprints."""
        settings = self._settings(set(type(self).model_fields) - self.marked(Mark.SCORES) - self.marked(Mark.SUMMARY))
        looks_at_samples = self.select == "best" and self.num_samples > 1
        return settings | ({"num_samples": self.num_samples} if looks_at_samples else {})

    def scoring_settings(self) -> dict[str, Any]:
        """Return the fields that change scores but no weight, for fingerprints."""
        return self._settings(self.marked(Mark.SCORES))

    def _settings(self, names: set[str]) -> dict[str, Any]:
        later = self.marked(Mark.OMIT_DEFAULT)
        return self.model_dump(include=names - later) | self.model_dump(include=names & later, exclude_defaults=True)

    @model_validator(mode="after")
    def one_budget(self) -> Self:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give max_steps (equal for every arm) or epochs (grows with the training set), not both")
        return self

    @model_validator(mode="after")
    def scores_of_several_raters_fit(self) -> Self:
        if self.level_sets and self.num_samples == 1:
            raise ValueError("level_sets needs num_samples, the number of sets, of 2 or more")
        if self.pair_region == "union" and self.pair_rule == "dice":
            raise ValueError("pair_region: union is for variances; with pair_rule: dice the region changes nothing")
        return self

    @model_validator(mode="after")
    def milestones_belong_to_their_schedule(self) -> Self:
        if (self.schedule == "halved") != bool(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise ValueError(
                f"schedule halved, and no other, needs milestones between 0 and 1; found {self.schedule} and"
                f" {list(self.milestones)}"
            )
        return self

    @model_validator(mode="after")
    def a_selection_is_complete(self) -> Self:
        given = [name for name in SELECTION if getattr(self, name) != type(self).model_fields[name].default]
        if self.select == "best" and self.select_every is None:
            raise ValueError(
                "select: best needs select_every, the optimiser steps between two looks at validation images"
            )
        if self.select == "last" and given:
            raise ValueError(f"{' and '.join(given)} need select: best")
        return self

    @model_validator(mode="after")
    def a_schedule_has_what_it_needs(self) -> Self:
        if self.ema_warmup != "ramp" and self.ema_decay is None:
            raise ValueError("ema_warmup belongs to a moving average; give ema_decay too, or leave it out")
        if (self.schedule == "warmup_cosine") != (self.warm_up is not None):
            raise ValueError(f"schedule warmup_cosine needs warm_up, and only it; the schedule is {self.schedule}")
        if self.plateau is not None and self.schedule != "plateau":
            raise ValueError(f"plateau needs the schedule plateau, found {self.schedule}")
        if self.schedule == "plateau" and self.select == "last" and (self.plateau or Plateau()).every is None:
            raise ValueError("schedule plateau needs plateau.every (steps of mean training loss), or select: best")
        return self

    @model_validator(mode="after")
    def spacing_is_that_of_native_pixels(self) -> Self:
        if self.spacing is not None and (self.resolution != "native" or min(self.spacing) <= 0):
            raise ValueError("spacing is the size of original pixels in mm, above 0, and needs resolution native")
        return self

    def check_unseen(self, test_sets: Collection[str]) -> None:
        """Raise UserError where a test set that is declared unseen does not exist."""
        if unknown := [name for name in self.unseen if name not in test_sets]:
            known = ", ".join(dict.fromkeys(test_sets))
            raise UserError(
                f"params.yaml: segment.unseen names {unknown[0]!r}; the sources of test images are: {known}"
            )

    def steps(self, images: int) -> int:
        """Return the number of optimiser steps on a training set of so many images."""
        return self.max_steps or math.ceil(images * (self.epochs or 0) / self.batch_size)

    def threads_or(self, default: int) -> int:
        """Return the threads of each process that trains segmenters; `default` is the number of the study."""
        return self.threads or default

    @model_validator(mode="after")
    def seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, found {list(self.seeds)}")
        return self


class SegmenterEntry(MethodEntry):
    """A segmenter and its own keys."""

    segment: dict[str, Any] = Field(default_factory=dict)
    """Keys of the section `segment` that this segmenter overrides, in every arm. `seeds` and `threads` are common to
    all.
    """


def entry_settings(segment: Segment, name: str, entry: SegmenterEntry) -> Segment:
    """Return the section `segment` with the overrides of one entry of `segmenters`. Raises UserError."""
    values, where = segment.model_dump(), f"segmenters.{name}.segment"
    if entry.segment.keys() & {"seeds", "threads"}:
        raise UserError(
            f"params.yaml: {where}: seeds and threads are common to all segmenters; set them in the section segment"
        )
    if entry.segment.keys() & {"max_steps", "epochs"}:
        values |= {"max_steps": None, "epochs": None}
    if "schedule" in entry.segment:
        values |= {"milestones": (), "warm_up": None, "plateau": None}
    if entry.segment.get("select") == "last":
        values |= {name: Segment.model_fields[name].default for name in SELECTION}
    return parse(Segment, values | entry.segment, where)
