"""Parameters of `dermosegdiff`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.core.section import Section
from pipeline.diffusion.boundary_weight import GAMMA, Extend
from pipeline.diffusion.prediction import Prediction

MIN_TRAIN_STEPS = 21  # with fewer training steps the last beta would reach 1


class Params(Section):
    """Network, diffusion process, loss and sampling. The default sizes are for CPUs."""

    network: Literal["dual_path", "concat"] = "dual_path"
    """`dual_path`: separate encoders of the noisy mask and of the image. `concat`: one U-Net that sees the image as
    further channels of the mask, the paper's baseline.
    """
    width_x: int = Field(default=16, gt=3, multiple_of=2)
    """Channels of the mask's path at the first level; 128 in the paper."""
    width_g: int = Field(default=16, gt=3, multiple_of=2)
    """Channels of the image's path at the first level; 64 in the paper."""
    mult_x: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)
    """Channels of each level of the mask's path as multiples of `width_x`; 1 2 3 4 5 6 in the paper, 2 2 2 2 2 2 for
    HAM10000.
    """
    mult_g: tuple[int, ...] = Field(default=(1, 2, 4), min_length=1)
    """Channels of each level of the image's path as multiples of `width_g`; 1 2 4 8 16 32 in the paper."""
    heads: int = Field(default=2, gt=0)
    """Heads of attention; 4 in the paper."""
    dim_head: int = Field(default=8, gt=0)
    """Channels of each head of attention; 32 in the paper."""
    groups: int = Field(default=8, gt=0)
    """Groups of the group normalisation."""
    stem_stride: int = Field(default=2, gt=0)
    """Side of the squares of pixels that the first convolution folds into one position; 1 in the paper."""
    prediction: Prediction = "x0"
    """What the network predicts: the clean mask, the noise (`eps`, as in the paper), or the velocity."""
    schedule: Literal["linear", "quadratic", "cosine"] = "linear"
    """Noise schedule."""
    train_steps: int = Field(default=250, ge=MIN_TRAIN_STEPS)
    """Noise levels of the training."""
    train_first: bool = True
    """Also train the cleanest noise level. The published code never does."""
    loss: Literal["A", "B"] = "B"
    """`A`: squared error. `B`: the same error, weighted by the border, is added."""
    boundary: float = Field(default=0.25, ge=0)
    """Weight of the boundary loss; the paper's text says 0.2."""
    gamma: float = Field(default=GAMMA, gt=0)
    """Exponent of the boundary weight; it says how fast the weight becomes uniform with growing noise."""
    extend: Extend = "none"
    """`paper`: draw borders out within rows, as the paper's text has it and its code does not."""
    boundary_on: Literal["all", "real"] = "all"
    """`real`: leave synthetic images out of the boundary loss."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """Sampler of the prediction; `ddpm` in the paper."""
    steps: int = Field(default=10, gt=0)
    """Steps of the sampler; 250 in the paper."""
    samples: int = Field(default=1, gt=0)
    """Masks that are drawn and averaged for one prediction; 9 in the paper, 5 in its code."""
    clip: bool = True
    """Clip the clean mask of every step to [-1, 1]. The paper does not."""
    threshold: float = Field(default=0.0, gt=-1, lt=1)
    """Value of the mean mask, between -1 and 1, that becomes the probability 0.5; for two classes only."""
    stretch: bool = True
    """Stretch each image to [0, 1] by its own minimum and maximum."""
    augmentation: Literal["dihedral", "paper", "none"] = "dihedral"
    """`dihedral`: random flips and quarter turns. `paper`: the five changes that the paper names (noise, shifted
    colours, an affine map, holes, flips), as rarely as in its code: each for 2.5 % of the pairs.
    """
    weights: Literal["none"] = "none"
    """This network has no pretrained weights."""

    @property
    def needs_every_label(self) -> bool:
        """Whether training masks may have no ignored pixels: noise is added to the whole mask."""
        return True

    @model_validator(mode="after")
    def paths_have_the_same_levels(self) -> Self:
        if len(self.mult_x) != len(self.mult_g):
            raise ValueError(
                f"mult_x has {len(self.mult_x)} levels, mult_g has {len(self.mult_g)}; give both the same number"
            )
        return self

    @model_validator(mode="after")
    def steps_are_among_those_of_training(self) -> Self:
        if self.steps > self.train_steps:
            raise ValueError(f"steps is {self.steps}, but may be at most train_steps, {self.train_steps}")
        return self
