"""Parameters of `mask_boundary`, apart from the method, so that a study is checked without loading torch."""

from pydantic import Field

from pipeline.core.section import Section


class Params(Section):
    """The width of the outline."""

    width: int = Field(default=2, gt=0)
    """Width of the outline in pixels, inwards from the edge."""
