"""Parameters of `ctnet`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import HubWeights


class Params(Section):
    """Initial weights of the encoder, and choices in training where paper and published code differ."""

    weights: HubWeights = "none"
    """Initial weights of the encoder: `hub` (NVIDIA's, not for commercial use), `none`, or the path of a file of
    NVIDIA's or of transformers.
    """
    weighted_bce: bool = True
    """Weigh the cross-entropy by the distance to the border, as the paper writes it. The published code does not."""
    multi_scale: bool = True
    """Train on three sizes of every batch."""
    augmentation: Literal["dihedral", "none"] = "dihedral"
    """`dihedral`: random flips and quarter turns. The published code has `none`."""
    contrast: float = Field(default=0.1, ge=0)
    """Weight of the contrast loss."""
    min_pixels: int = Field(default=100, ge=1)
    """Pixels that a class must have in an image to take part in the contrast loss."""
