"""Parameters of `unet_plain32`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section


class Params(Section):
    """Width and the normalisation of images."""

    width: int = Field(default=32, gt=0)  # channels of the first level; doubled at each further one
    stretch: bool = True  # each image to [0, 1] by its own minimum and maximum
    weights: Literal["none"] = "none"
