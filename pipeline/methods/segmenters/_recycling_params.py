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
    """Release and size of the U-Net; the defaults are those of the papers, in 2-D and 3-D."""

    version: Literal["0.3.2", "0.3.1", "0.1.0"] = "0.3.2"
    """Release of the public code whose network this is. `"0.3.1"` is that of the paper in MELBA, with a learned
    position for each cell of the lowest level, so that every image, or patch, has one size; `"0.1.0"` is that of the
    first paper, without a transformer.
    """
    channels: tuple[int, ...] = Field(default=(32, 64, 128, 256), min_length=2)
    """Channels of each level of the U-Net."""
    blocks: int = Field(default=2, gt=0)
    """Residual blocks per level on the way down; there is one more on the way up."""
    heads: int = Field(default=8, gt=0)
    """Heads of the transformer at the lowest level."""
    layers: int = Field(default=1, ge=0)
    """Layers of the transformer at the lowest level."""
    first_stride: tuple[int, ...] | None = None
    """Stride of the first downsampling along each axis; `null` for 2."""
    dropout: float | None = Field(default=None, ge=0, lt=1)
    """Probability of dropout; `null` for that of the version, 0.1 in 0.3.2 and 0 in the others."""


class Params(Trunk):
    """Network, diffusion, losses, patches and augmentation."""

    mode: Mode = "recycle_T"
    """How the noisy mask of a training step is made: recycled from a prediction at the last or the next noise level,
    from the true mask (`vanilla`), with self-conditioning, or not at all (`plain`, an ordinary U-Net).
    """
    prediction: Literal["x0", "eps"] = "x0"
    """What the network predicts: the clean mask or the noise."""
    schedule: Literal["linear", "quadratic", "cosine"] = "linear"
    """Noise schedule."""
    schedule_steps: int = Field(default=1001, gt=1)
    """Noise levels of the schedule."""
    train_steps: int = Field(default=1001, gt=1)
    """Number of these levels that the training sees, evenly spread."""
    steps: int = Field(default=5, gt=1)
    """Number of those that the sampler visits."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """Sampler of the prediction."""
    variance: Literal["small", "large"] = "small"
    """Variance of DDPM's steps."""
    reverse_step: bool | None = None
    """In the modes `recycle_next` and `selfcond_next`: take the posterior's mean after the first pass instead of adding
    new noise. `null`: yes for `selfcond_next`, no for `recycle_next`.
    """
    times: Literal["uniform", "importance"] = "uniform"
    """How noise levels are drawn: uniformly, or more often where the loss is large."""
    tau: Literal["fraction", "index"] = "fraction"
    """What the time that the network sees is a fraction of: the noise levels of the training, or (`index`) the steps of
    the process at hand, as in the public code.
    """
    clip: bool = True
    """Clip the noisy mask to [0, 1] for the network. The first paper does not."""
    cross_entropy: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy."""
    focal: float = Field(default=0.0, ge=0)
    """Weight of the focal loss."""
    dice: float = Field(default=1.0, ge=0)
    """Weight of the Dice loss."""
    noise: float = Field(default=0.1, ge=0)
    """Weight of the squared error of the noise, with `prediction: eps`."""
    patch: tuple[int, ...] | None = None
    """Cells of the windows that are trained on; `null` for whole images."""
    overlap: tuple[int, ...] | None = None
    """Cells that neighbouring windows share in prediction; `null` for none."""
    stretch: bool = False
    """Stretch each channel of the image to [0, 1]."""
    rotation: float = Field(default=0.088, ge=0)
    """Largest random rotation in radians, in every plane."""
    shift: float | tuple[float, ...] = 0.0
    """Largest random shift in cells, one for all axes or one each."""
    scaling: float = Field(default=0.15, ge=0, lt=1)
    """Largest random change of size, as a share."""
    flips: bool = False
    """Also apply one of the eight flips and quarter turns, for square images."""
    postprocess: Literal["none", "muscle_us"] = "none"
    """`muscle_us` cleans holes, specks and edges of predictions, for pictures with one foreground class."""
    weights: Literal["none"] = "none"
    """This network has no pretrained weights."""

    @model_validator(mode="after")
    def steps_are_among_those_of_training(self) -> Self:
        if not self.steps <= self.train_steps <= self.schedule_steps:
            raise ValueError(
                f"steps ({self.steps}) may be at most train_steps ({self.train_steps}), and these at most"
                " schedule_steps"
                f" ({self.schedule_steps})"
            )
        return self

    @model_validator(mode="after")
    def the_first_version_has_no_choice_of_blocks(self) -> Self:
        names = ("blocks", "heads", "layers", "tau")
        given = [name for name in names if getattr(self, name) != type(self).model_fields[name].default]
        if self.version == "0.1.0" and given:
            raise ValueError(
                f"version 0.1.0 has one block a level, no transformer and the number of the noise level as time; leave"
                f" {' and '.join(given)} out"
            )
        return self

    @model_validator(mode="after")
    def time_has_as_many_sines_as_cosines(self) -> Self:
        if self.mode != "plain" and self.version != "0.1.0" and self.channels[-1] % 2:
            raise ValueError(f"the last of channels is {self.channels[-1]}; the embedding of time needs an even number")
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
    def dropout_share(self) -> float:
        """The dropout within blocks and transformer."""
        return (0.1 if self.version == "0.3.2" else 0.0) if self.dropout is None else self.dropout

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
            raise UserError(f"flips need square images; those of {spec.name} have {list(spec.spatial)} cells")
        if self.postprocess != "none" and (spec.ndim, spec.num_classes) != (2, 2):
            raise UserError(
                f"postprocess {self.postprocess} is for pictures with one foreground class, and {spec.name} has others"
            )
        if self.overlap and (
            self.patch is None or any(not 0 <= o < p for o, p in zip(self.overlap, self.patch, strict=True))
        ):
            raise UserError(
                f"overlap is {list(self.overlap)} and patch is {self.patch}; overlap must be at least 0 and below patch"
            )
