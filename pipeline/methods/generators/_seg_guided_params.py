"""Parameters of `seg_guided`, apart from the method, so that a study is checked without loading torch."""

from typing import Self

from pydantic import Field, model_validator

from pipeline.core.section import Section

GROUPS = 32  # of the network's group norms, which divide every width


class Params(Section):
    """Sizes of the network, by default those of the public code for 256 pixels, and what it sees of a mask."""

    channels: tuple[int, ...] = (128, 128, 256, 256, 512, 512)
    """Channels of each level of the U-Net, multiples of 32. The last level but one has self-attention. With L levels,
    `data.size` is a multiple of 2^(L-1).
    """
    layers: int = Field(default=2, gt=0)
    """Residual layers of each level."""
    ablation: float = Field(default=0.5, ge=0, lt=1)
    """Chance that a class is left out of the mask of a training sample (mask-ablated training); 0 switches it off."""
    mask_divisor: float = Field(default=1.0, gt=0)
    """The mask is one further channel of the network's input, and holds the number of the class divided by this; 255 in
    the public code.
    """

    @model_validator(mode="after")
    def channels_fit_the_norms(self) -> Self:
        if len(self.channels) < 2 or any(width <= 0 or width % GROUPS for width in self.channels):
            raise ValueError(f"channels must be two or more multiples of {GROUPS}, found {list(self.channels)}")
        return self
