"""Parameters of `deeplabv3plus`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import PACKAGED, PackagedWeights


class Params(Section):
    """Encoder, its initial weights, decoder."""

    encoder: str = PACKAGED  # tu-<name in timm>, or a name in smp
    weights: PackagedWeights = "packaged"
    output_stride: Literal[8, 16] = 16
    decoder_channels: int = Field(default=256, gt=0)
