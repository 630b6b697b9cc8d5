"""Parameters of `att_unet`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section


class Params(Section):
    """The width of the network."""

    width: int = Field(default=64, gt=1, multiple_of=2)
    """Channels of the first of the five levels, doubled at each further one; 8 or 16 suit a CPU."""
    weights: Literal["none"] = "none"
    """This network has no pretrained weights."""
