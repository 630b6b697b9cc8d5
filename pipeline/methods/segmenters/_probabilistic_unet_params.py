"""Parameters of `probabilistic_unet`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section


class Params(Section):
    """Networks and loss. The default sizes are for CPUs."""

    filters: tuple[int, ...] = Field(default=(16, 32, 64, 96), min_length=2)
    """Channels of each level of the U-Net and of the two Gaussian encoders; 32, 64, 128, 192 in the paper."""
    convolutions: int = Field(default=2, gt=0)
    """Convolutions per level; 3 in the paper."""
    latent: int = Field(default=6, gt=0)
    """Dimensions of the latent space."""
    joining: int = Field(default=3, gt=0)
    """1 x 1 convolutions that join features and latent point, before the last one."""
    beta: float = Field(default=10.0, ge=0)
    """Weight of the divergence of posterior and prior beside the cross-entropy, summed over the pixels of an image."""
    augmentation: Literal["dihedral", "none"] = "dihedral"
    """`dihedral`: random flips and quarter turns."""
    weights: Literal["none"] = "none"
    """This network has no pretrained weights."""

    @property
    def needs_every_label(self) -> bool:
        """Whether training masks may have no ignored pixels: the posterior sees the whole mask."""
        return True
