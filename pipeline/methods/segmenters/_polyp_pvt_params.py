"""Parameters of `polyp_pvt`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import HubWeights


class Params(Section):
    """Initial weights of the encoder, and choices in training where paper and published code differ."""

    weights: HubWeights = "hub"
    """Initial weights of the encoder: `hub`, `none`, or the path of the authors' or timm's file of PVTv2-B2."""
    weighted_bce: bool = True
    """Weigh the cross-entropy by the distance to the border, as the paper writes it. The published code does not."""
    multi_scale: bool = True
    """Train on three sizes of every batch."""
    augmentation: Literal["dihedral", "none"] = "dihedral"
    """`dihedral`: random flips and quarter turns. The published code has `none`."""
