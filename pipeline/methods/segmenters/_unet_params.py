"""Parameters of `unet`, apart from the method, so that a study is checked without loading torch."""

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import PACKAGED, PackagedWeights


class Params(Section):
    """The encoder, its initial weights, and the decoder."""

    encoder: str = PACKAGED
    """Encoder: `tu-` and a name of timm, or a name of segmentation-models-pytorch."""
    weights: PackagedWeights = "packaged"
    """Initial weights of the encoder: `packaged` (ImageNet, no download), `hub`, `none`, or the path of a file."""
    decoder_channels: tuple[int, ...] = Field(default=(128, 64, 32, 16, 16), min_length=5, max_length=5)
    """Channels of the five levels of the decoder."""
