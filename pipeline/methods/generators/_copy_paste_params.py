"""Parameters of `copy_paste`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section


class Params(Section):
    """How lesions are blended in; lengths are shares of the image's side."""

    feather: float = Field(default=0.01, ge=0, le=0.1)  # standard deviation of the soft edge
    margin: float = Field(default=0.02, ge=0, le=0.2)  # around the background's own lesion, covered with it
    blend: Literal["feather", "poisson"] = "feather"  # poisson: the lesion takes on the colours around it
    lesions: Literal["together", "apart"] = "together"  # apart: each region of a drawn mask has a lesion of its own
    candidates: int = Field(default=4, gt=0)  # backgrounds, and lesions, drawn per image; those that fit best are taken
