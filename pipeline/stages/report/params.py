"""The section `report` of a study."""

from pydantic import Field

from pipeline.core.section import Section


class Report(Section):
    """The HTML report."""

    title: str = "twinsynth"
    """Title of the page."""
    samples: int = Field(default=8, gt=0)
    """Rows of the grid of sample images."""
