"""Parameters of `copy_paste`, apart from the method, so that a study is checked without loading torch."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section


class Params(Section):
    """How lesions are chosen and blended into other images."""

    feather: float = Field(default=0.01, ge=0, le=0.1)
    """Standard deviation of the soft edge, as a share of the image's side."""
    margin: float = Field(default=0.02, ge=0, le=0.2)
    """Width of the rim around the background's own lesion that is covered with it, as a share of the image's side."""
    blend: Literal["feather", "poisson"] = "feather"
    """`feather`: a soft edge. `poisson`: the lesion takes on the colours around it."""
    lesions: Literal["together", "apart"] = "together"
    """`together`: one lesion for the whole of a drawn mask. `apart`: each connected region gets a lesion of its own."""
    candidates: int = Field(default=4, gt=0)
    """Backgrounds, and lesions, that are drawn per image; those that fit best are taken."""
