"""Parameters of `deeplabv3plus`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import PACKAGED, PackagedWeights


class Params(Section):
    """The encoder, its initial weights, and the decoder."""

    encoder: str = PACKAGED
    """Encoder: `tu-` and a name of timm, or a name of segmentation-models-pytorch."""
    weights: PackagedWeights = "packaged"
    """Initial weights of the encoder: `packaged` (ImageNet, no download), `hub`, `none`, or the path of a file."""
    output_stride: Literal[8, 16] = 16
    """Factor between the image's side and that of the encoder's last feature map."""
    decoder_channels: int = Field(default=256, gt=0)
    """Channels of the decoder."""
