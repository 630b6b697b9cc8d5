"""Parameters of `transunet`, apart from the method, so that a study is checked without loading torch."""

from typing import Self

from pydantic import Field, model_validator

from pipeline.core.section import Section
from pipeline.methods.segmenters._initial_weights import HubWeights


class Params(Section):
    """Sizes of the ResNet, of the transformer and of the decoder. The defaults are those of R50-ViT-B_16."""

    layers: tuple[int, int, int] = (3, 4, 9)
    """Blocks of the three stages of the ResNet, which has 256, 512 and 1024 channels there."""
    width: int = Field(default=768, gt=0)
    """Channels of the transformer."""
    depth: int = Field(default=12, gt=0)
    """Layers of the transformer."""
    heads: int = Field(default=12, gt=0)
    """Heads of attention."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability of dropout behind the positions and in the perceptrons."""
    middle: int = Field(default=512, gt=0)
    """Channels into which the decoder brings the transformer's output."""
    decoder: tuple[int, int, int, int] = (256, 128, 64, 16)
    """Channels of the four levels of the decoder."""
    weights: HubWeights = "none"
    """Initial weights of ResNet and transformer: `hub` (ImageNet-21k, of timm), `none`, or the path of timm's file."""

    @model_validator(mode="after")
    def heads_divide_the_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(f"width is {self.width}; it must be a multiple of heads ({self.heads})")
        return self
