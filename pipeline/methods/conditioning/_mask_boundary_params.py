"""Parameters of `mask_boundary`, apart from the method, so that a study is checked without loading torch."""

from pydantic import Field

from pipeline.core.section import Section


class Params(Section):
    """How wide the outline is."""

    width: int = Field(default=2, gt=0)  # pixels, inwards from the edge
