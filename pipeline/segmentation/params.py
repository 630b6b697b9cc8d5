"""The sections `segment` and `segmenters` of a study: how segmenters are trained and scored, and which."""

import math
from collections.abc import Collection
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.errors import UserError
from pipeline.core.section import Entry, Section, parse


class Segment(Section):
    """Training of segmenters: the same for every training set; an entry of `segmenters` may have its own values."""

    max_steps: int | None = Field(default=None, gt=0)  # optimiser steps, equal for every arm
    epochs: int | None = Field(default=None, gt=0)  # instead: passes over the training set; more images, more steps
    batch_size: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    weight_decay: float = Field(default=1e-2, ge=0)
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd: Nesterov's momentum of 0.9
    schedule: Literal["one_cycle", "constant", "halved"] = "one_cycle"
    milestones: tuple[float, ...] = ()  # halved: shares of the training after which the rate is halved
    max_grad_value: float | None = Field(default=None, gt=0)  # each number of the gradients is cut off there
    encoder_rate: float = Field(default=1.0, gt=0)  # multiple of the learning rate at which the encoder learns
    betas: tuple[float, float] = (0.9, 0.999)  # of AdamW
    ema_decay: float | None = Field(
        default=None, gt=0, lt=1
    )  # keep a moving average of the weights instead of the last
    seeds: tuple[int, ...] = Field(min_length=1)
    threads: int | None = Field(default=None, gt=0)  # per process; None: as the study
    precision: Literal["fp32", "bf16"] = "fp32"
    keep: Literal["none", "best_seed", "all"] = "none"  # trained segmenters to publish; best: in Dice on validation
    resolution: Literal["training", "native"] = "training"  # of scores; native needs data.native_masks
    nsd_tolerance: float = Field(default=0.01, gt=0, lt=1)  # share of the image's diagonal
    spacing: tuple[float, float] | None = None  # height and width of a native pixel in mm: HD95 in mm, not in pixels
    unseen: tuple[str, ...] = ()  # test sets (sources) of which no image is trained on; the others are seen
    small_lesion: float = Field(default=0.05, gt=0, lt=1)  # share of the image below which a lesion is small
    num_samples: int = Field(default=1, ge=1)  # masks drawn per scored image by a segmenter that draws
    level_sets: bool = False  # several raters, two classes: a segmenter that does not draw gives num_samples level sets
    nsd_tolerance_mm: float = Field(default=1.0, gt=0)  # of volumes
    empty_truth: Literal["one", "zero"] = "one"  # S_c where no rater marked anything but a sample did
    pair_rule: Literal["variance", "dice"] = "variance"  # difference of two masks in D_a: of pixels, or 1 - Dice
    pooled: bool = False  # sensitivity, specificity and accuracy too, of each image and of all pixels of a test set
    region_size: bool = False  # how Dice goes with the size of regions; volumes always tell it
    trajectory_images: int = Field(default=64, ge=1)  # test images, at most, that are followed over sampling steps
    watch_every: int | None = Field(default=None, gt=0)  # optimiser steps between looks at Dice on validation images
    watch_images: int = Field(default=20, ge=1)  # of them, at most
    heatmap_images: int = Field(default=0, ge=0)  # test images of which a segmenter that can shows where it looks

    @model_validator(mode="after")
    def one_budget(self) -> Self:
        if (self.max_steps is None) == (self.epochs is None):
            raise ValueError("give max_steps (equal for every arm) or epochs (grows with the training set), not both")
        return self

    @model_validator(mode="after")
    def level_sets_are_several(self) -> Self:
        if self.level_sets and self.num_samples == 1:
            raise ValueError("level_sets needs num_samples, how many of them, of 2 or more")
        return self

    @model_validator(mode="after")
    def milestones_belong_to_their_schedule(self) -> Self:
        if (self.schedule == "halved") != bool(self.milestones) or not all(0 < m < 1 for m in self.milestones):
            raise ValueError(
                f"schedule halved needs milestones between 0 and 1, and only it; found {self.schedule} and"
                f" {list(self.milestones)}"
            )
        return self

    @model_validator(mode="after")
    def spacing_is_that_of_native_pixels(self) -> Self:
        if self.spacing is not None and (self.resolution != "native" or min(self.spacing) <= 0):
            raise ValueError("spacing is the size of original pixels in mm, above 0, and needs resolution native")
        return self

    def check_unseen(self, test_sets: Collection[str]) -> None:
        """Raises UserError where a test set that is called unseen does not exist."""
        if strange := [name for name in self.unseen if name not in test_sets]:
            there = ", ".join(dict.fromkeys(test_sets))
            raise UserError(
                f"params.yaml: segment.unseen names {strange[0]!r}; the sources of test images are: {there}"
            )

    def steps(self, images: int) -> int:
        """Optimiser steps on a training set of so many images."""
        return self.max_steps or math.ceil(images * (self.epochs or 0) / self.batch_size)

    @model_validator(mode="after")
    def seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, found {list(self.seeds)}")
        return self


class SegmenterEntry(Entry):
    """A segmenter and its own keys."""

    method: str | None = None  # None: the entry's name
    segment: dict[str, Any] = Field(default_factory=dict)  # its own values of the section segment, in every arm


def entry_settings(segment: Segment, name: str, entry: SegmenterEntry) -> Segment:
    """The section `segment` with the overrides of one entry of `segmenters`. Raises UserError."""
    values, where = segment.model_dump(), f"segmenters.{name}.segment"
    if entry.segment.keys() & {"seeds", "threads"}:
        raise UserError(f"params.yaml: {where}: seeds and threads are those of all segmenters; set them in segment")
    if entry.segment.keys() & {"max_steps", "epochs"}:
        values |= {"max_steps": None, "epochs": None}
    if "schedule" in entry.segment:
        values["milestones"] = ()
    return parse(Segment, values | entry.segment, where)
