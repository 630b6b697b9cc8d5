"""Parameters of `unet`, apart from the method, so that a study is checked without loading torch."""

from pydantic import Field

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import PACKAGED, PackagedWeights


class Params(Section):
    """Encoder, its initial weights, decoder."""

    encoder: str = PACKAGED  # tu-<name in timm>, or a name in smp
    weights: PackagedWeights = "packaged"
    decoder_channels: tuple[int, ...] = Field(default=(128, 64, 32, 16, 16), min_length=5, max_length=5)
