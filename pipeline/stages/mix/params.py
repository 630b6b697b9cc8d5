"""The entries of `training_sets` in params.yaml: a generator, a multiplier, screening (see mix.py and screening.py)."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from pipeline.core.pair_limit import Limited, PairLimit
from pipeline.core.section import Section


class Phase(Section):
    """Two phases of one training: first synthetic images alone, then real ones alone; the steps stay as many."""

    pretrain: float
    """Share of the optimiser steps on synthetic images alone, above 0 and below 1. The rest sees real images alone."""

    @model_validator(mode="after")
    def both_phases_have_steps(self) -> Self:
        if self.pretrain == 0:
            raise ValueError(
                "pretrain is 0, which is a pretraining phase of zero steps; give a share above 0, or remove phase"
            )
        if not 0 < self.pretrain < 1:
            raise ValueError(f"pretrain is {self.pretrain:g}; give the share of the steps, above 0 and below 1")
        return self


Share = Annotated[float, Field(gt=0, lt=1)]


class PixelScreen(Section):
    """The rule of FreeMask: synthetic pixels on which the judge's loss is far above that on real ones are ignored."""

    pixels: float = Field(gt=0)
    """Multiple of the judge's mean cross-entropy on real training pixels of a class, above which a pixel is ignored."""
    background: Literal["mean", "quantile"] = "mean"
    """Limit of background pixels: the same multiple of their mean, or their 99 % quantile, which spares hard ones."""
    least_foreground: float = Field(default=0.5, ge=0, le=1)
    """Share of the foreground that must be left; images with less are dropped."""


class Labels(Section):
    """Labels of synthetic images that the judge corrects where it is confident."""

    corrected: float = Field(default=0.95, gt=0.5, lt=1)
    """Probability from which on the judge is believed; that of FixMatch and UniMatch for predicted labels."""


def _kind(value: Any) -> str:
    return "share" if isinstance(value, float | int) else "section"


Screen = Annotated[Annotated[Share, Tag("share")] | Annotated[PixelScreen, Tag("section")], Discriminator(_kind)]


class TrainingSet(Limited, Section):
    """Real training images plus the first `multiplier` copies of one generator's images, screened or not."""

    real: Literal["train", "all"] = "train"
    """`all` adds the pairs beyond `data.train_limit`: the ceiling that more labels would reach."""
    repeat: int = Field(default=1, ge=1)
    """How often each real pair is listed. A control for training by epochs."""
    generator: str | None = None
    """The entry of `generators` whose images are added; `null` for real images alone."""
    multiplier: int = Field(default=0, ge=0)
    """Number of copies of each mask that are added, at most the `copies` of the generator."""
    seed_offset: int = Field(default=0, ge=0)
    """Added to every seed. An arm that differs from the reference in nothing else is an A/A control."""
    screen: Screen | None = None
    """Share of the synthetic images to keep, the most faithful ones; or `{pixels: 1.25}`, a rule for single pixels."""
    screen_min_dice: float | None = Field(default=None, ge=0, le=1)
    """Faithfulness (Dice of the judge) below which a synthetic image is left out."""
    drop_copies: bool = False
    """Leave out the images that the audit suspects to be copies of training images."""
    labels: Labels | None = None
    """`corrected` or `{corrected: probability}`: where the judge is confident, its labels replace those of masks."""
    resample: Literal["hardness"] | None = None
    """`hardness` takes more copies of masks that the judge finds hard, and fewer of the others; `null` equally many."""
    synthetic_share: Share | None = None
    """Share of synthetic images in every batch; `null` draws all images alike."""
    synthetic_until: float | None = Field(default=None, gt=0, le=1)
    """Share of the training after which `synthetic_share` has fallen linearly to 0; `null` leaves it constant.
    """
    phase: Phase | None = None
    """Train on synthetic images first and on real ones afterwards; `null` trains on all of them at once."""
    steps: float = Field(default=1.0, ge=1)
    """Factor on the optimiser steps: the control for longer training."""
    augment: Literal["own", "strong"] | None = None
    """Augmentation of this arm; `null` for `segment.augment`."""
    unlabelled: Literal["mean_teacher", "pseudo_labels"] | None = None
    """How the set learns from the images of `data.unlabelled`: `mean_teacher`, or `pseudo_labels`, which adds them with
    the masks that `data.unlabelled.pseudo_labels` predicts; `null` does without them.
    """
    pseudo_share: Share | None = None
    """Share of images with pseudo-labels in every batch, with `unlabelled: pseudo_labels`; `null` draws them like other
    real images.
    """

    @property
    def by_dice(self) -> bool:
        """Whether screening needs the faithfulness of each image."""
        return self.share is not None or self.screen_min_dice is not None

    @property
    def share(self) -> float | None:
        """The share of the most faithful images that is kept."""
        return None if isinstance(self.screen, PixelScreen) else self.screen

    @property
    def pixel_screen(self) -> PixelScreen | None:
        """The rule by which pixels are ignored."""
        return self.screen if isinstance(self.screen, PixelScreen) else None

    @property
    def screened(self) -> bool:
        """Whether any synthetic image may be dropped."""
        return self.by_dice or self.drop_copies or self.pixel_screen is not None

    @property
    def relabelled(self) -> bool:
        """Whether masks of synthetic images may be changed."""
        return self.pixel_screen is not None or self.labels is not None

    @property
    def chosen(self) -> bool:
        """Whether the synthetic images are other ones than the first copies, or have other masks."""
        return self.screened or self.relabelled or self.resample is not None

    @property
    def judge_rules(self) -> list[str]:
        """The keys for which the stage score must have published the judge's maps."""
        rules = {"screen.pixels": self.pixel_screen, "labels": self.labels, "resample": self.resample}
        return [key for key, value in rules.items() if value]

    @property
    def on_ladder(self) -> bool:
        """Whether the set is one of the multipliers of its generator that are compared with each other."""
        return self.generator is not None and not self.chosen and not self.seed_offset

    @property
    def options(self) -> str:
        """All that was chosen beside generator and multiplier, such as `synthetic_share 0.2`; empty for none."""
        chosen = self.model_dump(mode="json", exclude={"generator", "multiplier"}, exclude_defaults=True)
        if self.phase is not None:
            chosen["phase"] = f"pretrain {self.phase.pretrain:g}"
        if self.labels is not None:
            chosen["labels"] = f"corrected {self.labels.corrected:g}"
        if self.pixel_screen is not None:
            chosen["screen"] = " ".join(f"{key} {value}" for key, value in chosen["screen"].items())
        return ", ".join(f"{key} {value}" for key, value in chosen.items())

    @property
    def real_pairs(self) -> tuple[str, PairLimit | None]:
        """Which real training pairs the set holds."""
        return self.real, self.pair_limit

    @property
    def effort(self) -> tuple[float, str | None, str | None]:
        """What is done beside the images to learn more: the factor on steps, augmentation, unlabelled images."""
        return self.steps, self.augment, self.unlabelled

    def total_steps(self, steps: int) -> int:
        """Return the optimiser steps of a training whose section `segment` asks for `steps`."""
        return round(steps * self.steps)

    def pretraining_steps(self, steps: int) -> int:
        """Return how many of the first of `steps`, as `total_steps` gives them, are on synthetic images alone.

        Raises ValueError where either phase would have none.
        """
        if self.phase is None:
            return 0
        first = round(self.phase.pretrain * steps)
        if not 0 < first < steps:
            which = "pretraining phase" if first == 0 else "phase on real images"
            raise ValueError(
                f"phase.pretrain is {self.phase.pretrain:g}: of {steps} optimiser steps that leaves a {which} of zero"
                " steps; train longer or choose another share"
            )
        return first

    @field_validator("labels", mode="before")
    @classmethod
    def corrected_is_a_section_of_defaults(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "corrected":
            raise ValueError(f"{value!r} is no rule for labels; give corrected, or {{corrected: probability}}")
        return {} if value == "corrected" else value

    @model_validator(mode="after")
    def generator_and_multiplier_belong_together(self) -> Self:
        if (self.generator is None) != (self.multiplier == 0):
            raise ValueError("a generator needs a multiplier >= 1, and a multiplier needs a generator")
        if self.generator is None and self.synthetic_share is not None:
            raise ValueError("synthetic_share is the share of synthetic images, but the set has no generator")
        if self.generator is None and self.phase is not None:
            raise ValueError("phase.pretrain is a phase on synthetic images, but the set has no generator")
        return self

    @model_validator(mode="after")
    def only_pairs_within_the_limit_decide(self) -> Self:
        if self.limit is not None and self.real == "all":
            raise ValueError(f"limit is {self.limit}, which counts pairs of the split train; remove it or real: all")
        if self.limit is not None and (self.by_dice or self.judge_rules):
            key = self.judge_rules[0] if self.judge_rules else "screen" if self.share is not None else "screen_min_dice"
            raise ValueError(
                f"{key} rests on the judge, which has learnt from all training pairs, but limit is {self.limit}; remove"
                " one of them"
            )
        return self

    @model_validator(mode="after")
    def pseudo_labels_have_their_place(self) -> Self:
        if self.unlabelled == "pseudo_labels":
            if self.limit is not None:
                raise ValueError(
                    f"limit is {self.limit}, but pseudo_labels come from segmenters that have learnt from all training"
                    " pairs; remove one of them"
                )
            if self.real == "all":
                raise ValueError(
                    "real: all has the true masks of images that may get pseudo_labels; remove one of them"
                )
        if self.pseudo_share is None:
            return self
        if self.unlabelled != "pseudo_labels":
            raise ValueError(
                "pseudo_share is the share of images with pseudo-labels; set unlabelled: pseudo_labels too"
            )
        if self.generator is not None and (self.synthetic_share is None or self.synthetic_until is not None):
            raise ValueError(
                "pseudo_share beside synthetic images needs a constant synthetic_share; give it, without"
                " synthetic_until"
            )
        if self.pseudo_share + (self.synthetic_share or 0) >= 1:
            raise ValueError("pseudo_share and synthetic_share must be below 1 together, as real pairs take the rest")
        return self

    @model_validator(mode="after")
    def one_schedule_of_synthetic_images(self) -> Self:
        if self.phase is not None and self.synthetic_share is not None:
            raise ValueError("phase and synthetic_share exclude each other; leave one of them out")
        if self.synthetic_until is not None and self.synthetic_share is None:
            raise ValueError("synthetic_until says when synthetic_share has fallen to 0; give synthetic_share too")
        return self
