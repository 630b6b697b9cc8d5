"""Parameters of `cimd`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section
from pipeline.diffusion.prediction import Prediction


class Params(Section):
    """Networks, diffusion process and losses. The default sizes are for CPUs."""

    base: int = Field(default=24, gt=0, multiple_of=2)
    """Channels of the first level; 128 in the paper."""
    multipliers: tuple[int, ...] = Field(default=(1, 2, 2), min_length=1)
    """Channels of each level as multiples of `base`; 1 1 2 3 4 in the paper."""
    blocks: int = Field(default=1, gt=0)
    """Residual blocks per level; 2 in the paper."""
    attention: tuple[int, ...] = ()
    """Strides of the levels with attention; 8 in the paper. The middle of the network always has attention."""
    heads: int = Field(default=1, gt=0)
    """Heads of attention."""
    groups: int = Field(default=8, gt=0)
    """Groups of the group normalisation; 32 in the paper."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability of dropout."""
    fold: int = Field(default=2, gt=0)
    """Side of the squares of pixels that are folded into the channels of one position; 1 in the paper."""
    image_copies: int = Field(default=1, gt=0)
    """How often the image is given to the U-Net. The public code gives grey images four times."""
    prediction: Prediction = "x0"
    """What the network predicts: the clean mask, the noise, or the velocity."""
    schedule: Literal["linear", "quadratic", "cosine"] = "linear"
    """Noise schedule."""
    train_steps: int = Field(default=1000, gt=1)
    """Noise levels of the training."""
    input_scale: float = Field(default=1.0, gt=0)
    """Factor on the masks before noise is added. Below 1 there is more noise at every level."""
    sampler: Literal["ddim", "ddpm"] = "ddim"
    """Sampler of the prediction."""
    steps: int = Field(default=20, gt=0)
    """Steps of the sampler."""
    lambda_vlb: float = Field(default=1e-3, ge=0)
    """Weight of the term of the variational bound; 1 in the public code."""
    beta_ambiguity: float = Field(default=1e-3, ge=0)
    """Weight of the divergence between the two Gaussian encoders."""
    train_gaussians: bool = True
    """Train the two Gaussian encoders (AMN and ACN). Without it they keep their random initial weights, as in the
    public code.
    """
    gaussian_filters: tuple[int, ...] = Field(default=(8, 16, 24), min_length=1)
    """Channels of each level of the Gaussian encoders; 32, 64, 128, 192 in the paper."""
    gaussian_convolutions: int = Field(default=2, gt=0)
    """Convolutions per level of the Gaussian encoders; 3 in the paper."""
    gaussian_latent: int = Field(default=4, gt=0)
    """Dimensions of the Gaussians; 6 in the paper."""
    augmentation: Literal["dihedral", "none"] = "dihedral"
    """`dihedral`: random flips and quarter turns."""
    weights: Literal["none"] = "none"
    """This network has no pretrained weights."""

    @property
    def needs_every_label(self) -> bool:
        """Whether training masks may have no ignored pixels: noise is added to the whole mask."""
        return True
