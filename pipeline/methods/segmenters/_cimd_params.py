"""Parameters of `cimd`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section
from pipeline.diffusion.prediction import Prediction


class Params(Section):
    """Networks (the paper's: base 128, multipliers 1 1 2 3 4, two blocks, attention 8, fold 1), process and loss."""

    base: int = Field(default=24, gt=0, multiple_of=2)  # channels of the first level
    multipliers: tuple[int, ...] = Field(default=(1, 2, 2), min_length=1)
    blocks: int = Field(default=1, gt=0)
    attention: tuple[int, ...] = ()  # strides with attention; there is always attention in the middle
    heads: int = Field(default=1, gt=0)
    groups: int = Field(default=8, gt=0)  # of normalisations; the paper's 32
    dropout: float = Field(default=0.0, ge=0, lt=1)
    fold: int = Field(default=2, gt=0)  # side of the squares of pixels that the U-Net sees as channels of one; paper: 1
    image_copies: int = Field(default=1, gt=0)  # how often the image is given to the U-Net; the code gives grey ones 4x
    prediction: Prediction = "x0"
    schedule: Literal["linear", "quadratic", "cosine"] = "linear"
    train_steps: int = Field(default=1000, gt=1)
    input_scale: float = Field(default=1.0, gt=0)  # of masks before noise is added; below 1: more noise at all times
    sampler: Literal["ddim", "ddpm"] = "ddim"
    steps: int = Field(default=20, gt=0)  # of the sampler
    lambda_vlb: float = Field(default=1e-3, ge=0)  # 1 in the published code
    beta_ambiguity: float = Field(default=1e-3, ge=0)
    train_gaussians: bool = True  # false: AMN and ACN keep their initial weights, as in the published code
    gaussian_filters: tuple[int, ...] = Field(default=(8, 16, 24), min_length=1)  # the paper's 32, 64, 128, 192
    gaussian_convolutions: int = Field(default=2, gt=0)  # the paper's 3
    gaussian_latent: int = Field(default=4, gt=0)  # the paper's 6
    augmentation: Literal["dihedral", "none"] = "dihedral"
    weights: Literal["none"] = "none"

    @property
    def needs_every_label(self) -> bool:
        """Whether training masks may have no ignored pixels: noise is added to the whole mask."""
        return True
