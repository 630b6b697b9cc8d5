"""Parameters of `polyp_pvt`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import HubWeights


class Params(Section):
    """Initial weights of the encoder and the training's choices."""

    weights: HubWeights = "hub"  # a path: the authors' or timm's file of PVTv2-B2
    weighted_bce: bool = True  # false: as the published code
    multi_scale: bool = True
    augmentation: Literal["dihedral", "none"] = "dihedral"  # none: as the published code
