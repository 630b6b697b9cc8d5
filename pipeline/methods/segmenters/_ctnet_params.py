"""Parameters of `ctnet`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import HubWeights


class Params(Section):
    """Initial weights of the encoder and the training's choices."""

    weights: HubWeights = "none"  # hub: NVIDIA's, not for commercial use; a path: theirs or transformers' file
    weighted_bce: bool = True  # false: as the published code
    multi_scale: bool = True
    augmentation: Literal["dihedral", "none"] = "dihedral"  # none: as the published code
    contrast: float = Field(default=0.1, ge=0)  # weight of the contrast loss
    min_pixels: int = Field(default=100, ge=1)  # of a class in an image that takes part in the contrast
