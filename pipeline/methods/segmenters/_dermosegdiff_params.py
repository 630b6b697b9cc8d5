"""Parameters of `dermosegdiff`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.core.section import Section
from pipeline.diffusion.boundary_weight import GAMMA, Extend
from pipeline.diffusion.prediction import Prediction

MIN_TRAIN_STEPS = 21  # with fewer training steps the last beta would reach 1


class Params(Section):
    """Network, process, loss, sampling."""

    network: Literal["dual_path", "concat"] = "dual_path"
    width_x: int = Field(default=16, gt=3, multiple_of=2)  # channels of the mask's path at the first level; paper: 128
    width_g: int = Field(default=16, gt=3, multiple_of=2)  # of the image's; paper: 64
    mult_x: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)  # paper: 1 2 3 4 5 6, HAM10000 2 2 2 2 2 2
    mult_g: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)  # paper: 1 2 4 8 16 32
    heads: int = Field(default=2, gt=0)  # of attention; paper: 4
    dim_head: int = Field(default=8, gt=0)  # paper: 32
    groups: int = Field(default=8, gt=0)  # of group norm
    stem_stride: int = Field(default=2, gt=0)  # pixels per side that the first convolution folds into one; paper: 1
    prediction: Prediction = "x0"  # paper: eps
    schedule: Literal["linear", "quadratic", "cosine"] = "linear"
    train_steps: int = Field(default=250, ge=MIN_TRAIN_STEPS)
    train_first: bool = True  # false: the cleanest level is never trained, as in the published code
    loss: Literal["A", "B"] = "B"
    boundary: float = Field(default=0.25, ge=0)  # weight of the boundary loss; the paper's text says 0.2
    gamma: float = Field(default=GAMMA, gt=0)
    extend: Extend = "none"  # paper: borders drawn out within rows, as its text has it but not its code
    boundary_on: Literal["all", "real"] = "all"  # real: synthetic images do without the boundary loss
    sampler: Literal["ddim", "ddpm"] = "ddim"  # paper: ddpm
    steps: int = Field(default=10, gt=0)  # of the sampler; paper: 250
    samples: int = Field(default=1, gt=0)  # drawn and averaged for one prediction; paper: 9, its code 5
    clip: bool = True  # each step's clean map to [-1, 1]; paper: false
    threshold: float = Field(default=0.0, gt=-1, lt=1)  # of the mean map; two classes only
    stretch: bool = True  # each image to [0, 1] by its own minimum and maximum
    augmentation: Literal["dihedral", "none"] = "dihedral"
    weights: Literal["none"] = "none"

    @property
    def needs_every_label(self) -> bool:
        """Whether training masks may have no ignored pixels: noise is added to the whole mask."""
        return True

    @model_validator(mode="after")
    def paths_have_the_same_levels(self) -> Self:
        if len(self.mult_x) != len(self.mult_g):
            raise ValueError(f"mult_x has {len(self.mult_x)} levels, mult_g {len(self.mult_g)}; give as many of each")
        return self

    @model_validator(mode="after")
    def steps_are_among_those_of_training(self) -> Self:
        if self.steps > self.train_steps:
            raise ValueError(f"steps is {self.steps}, more than train_steps, {self.train_steps}")
        return self
