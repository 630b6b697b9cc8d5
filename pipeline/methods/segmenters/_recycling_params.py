"""Parameters of the recycling diffusion segmenters and of the plain U-Net of the same trunk."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.core.errors import UserError
from pipeline.core.section import Section
from pipeline.data.sample import DatasetSpec

Mode = Literal["recycle_T", "recycle_next", "vanilla", "selfcond_same", "selfcond_next", "plain"]
SELF_CONDITIONED = ("selfcond_same", "selfcond_next")
ONE_STEP = ("recycle_next", "selfcond_next")  # their first pass is one level above


class Trunk(Section):
    """Size of the U-Net; the defaults are those of the papers, in 2-D and 3-D."""

    channels: tuple[int, ...] = Field(default=(32, 64, 128, 256), min_length=2)
    blocks: int = Field(default=2, gt=0)  # of a level on the way down, one more on the way up
    heads: int = Field(default=8, gt=0)
    layers: int = Field(default=1, ge=0)  # of the transformer at the bottom
    first_stride: tuple[int, ...] | None = None  # of the first narrowing along each axis; None: 2
    dropout: float = Field(default=0.1, ge=0, lt=1)


class Params(Trunk):
    """Network, diffusion, losses, patches and augmentation."""

    mode: Mode = "recycle_T"
    prediction: Literal["x0", "eps"] = "x0"
    schedule: Literal["linear", "quadratic", "cosine"] = "linear"
    schedule_steps: int = Field(default=1001, gt=1)  # noise levels of the schedule
    train_steps: int = Field(default=1001, gt=1)  # of them, those that training sees, evenly spread
    steps: int = Field(default=5, gt=1)  # of these, the sampling steps
    sampler: Literal["ddim", "ddpm"] = "ddim"
    variance: Literal["small", "large"] = "small"  # of DDPM
    reverse_step: bool | None = None  # of the modes *_next: the posterior's mean, not new noise; None: selfcond_next
    times: Literal["uniform", "importance"] = "uniform"
    tau: Literal["fraction", "index"] = "fraction"  # index: of the steps of the process, as in the public code
    clip: bool = True  # clip the noisy mask to [0, 1] for the network; false: as in the first paper
    cross_entropy: float = Field(default=1.0, ge=0)
    focal: float = Field(default=0.0, ge=0)
    dice: float = Field(default=1.0, ge=0)
    noise: float = Field(default=0.1, ge=0)  # of the squared error, where noise is predicted
    patch: tuple[int, ...] | None = None  # cells; None: whole images
    overlap: tuple[int, ...] | None = None  # of neighbouring patches in prediction; None: none
    stretch: bool = False  # normalise each channel of the image to [0, 1]
    rotation: float = Field(default=0.088, ge=0)  # radians, in every plane
    shift: float | tuple[float, ...] = 0.0  # cells, one for all axes or one each
    scaling: float = Field(default=0.15, ge=0, lt=1)
    flips: bool = False  # also one of the eight flips and quarter turns of a square image
    postprocess: Literal["none", "muscle_us"] = "none"  # of grey or colour pictures with one class, see _muscle
    weights: Literal["none"] = "none"

    @model_validator(mode="after")
    def steps_are_among_those_of_training(self) -> Self:
        if not self.steps <= self.train_steps <= self.schedule_steps:
            raise ValueError(
                f"steps ({self.steps}) are some of train_steps ({self.train_steps}), and those of schedule_steps"
                f" ({self.schedule_steps}); none can be more"
            )
        return self

    @model_validator(mode="after")
    def time_has_as_many_sines_as_cosines(self) -> Self:
        if self.mode != "plain" and self.channels[-1] % 2:
            raise ValueError(f"the last of channels is {self.channels[-1]}; time needs an even number")
        return self

    @model_validator(mode="after")
    def a_reverse_step_goes_one_level_down(self) -> Self:
        if self.reverse_step and self.mode not in ONE_STEP:
            raise ValueError(f"reverse_step is for the modes {' and '.join(ONE_STEP)}, not {self.mode}")
        return self

    @model_validator(mode="after")
    def something_is_learned_of_labels(self) -> Self:
        if not self.cross_entropy + self.focal + self.dice:
            raise ValueError("cross_entropy, focal and dice are all 0: nothing would be learned")
        return self

    @property
    def needs_every_label(self) -> bool:
        """Whether training masks may have no ignored pixels: noise is added to the whole mask."""
        return self.mode != "plain"

    @property
    def self_conditioned(self) -> bool:
        """Whether the network is also conditioned on its last prediction."""
        return self.mode in SELF_CONDITIONED

    @property
    def reverses(self) -> bool:
        """Whether the posterior's mean follows the first pass."""
        return self.mode == "selfcond_next" if self.reverse_step is None else self.reverse_step

    @property
    def trains_last(self) -> bool:
        """Whether the noisiest level is trained too: by recycle_next from itself, by recycle_T never, as published."""
        return self.mode in ("vanilla", "selfcond_same") or (self.mode == "recycle_next" and not self.reverses)

    def check(self, spec: DatasetSpec) -> None:
        """Raise UserError where a length given per axis does not fit the images."""
        shifts = self.shift if isinstance(self.shift, tuple) else None
        per_axis = {"first_stride": self.first_stride, "patch": self.patch, "overlap": self.overlap, "shift": shifts}
        for name, values in per_axis.items():
            if values is not None and len(values) != spec.ndim:
                raise UserError(f"{name} has {len(values)} numbers; images of {spec.name} have {spec.ndim} axes")
        if self.flips and (spec.ndim != 2 or len(set(spec.spatial)) > 1):
            raise UserError(f"flips turn squares; images of {spec.name} have {list(spec.spatial)} cells")
        if self.postprocess != "none" and (spec.ndim, spec.num_classes) != (2, 2):
            raise UserError(f"postprocess {self.postprocess} is for pictures with one class; {spec.name} has others")
        if self.overlap and (
            self.patch is None or any(not 0 <= o < p for o, p in zip(self.overlap, self.patch, strict=True))
        ):
            raise UserError(
                f"overlap is {list(self.overlap)}, patch {self.patch}; it must be at least 0 and below patch"
            )
