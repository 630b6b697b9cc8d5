"""Parameters of `unet_plain32`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section


class Params(Section):
    """The width of the network, and how images are normalised."""

    width: int = Field(default=32, gt=0)
    """Channels of the first level, doubled at each further one."""
    stretch: bool = True
    """Stretch each image to [0, 1] by its own minimum and maximum."""
    weights: Literal["none"] = "none"
    """This network has no pretrained weights."""
