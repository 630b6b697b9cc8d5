"""The section `report` of a study."""

from pydantic import Field

from pipeline.core.section import Section


class Report(Section):
    """The HTML report."""

    title: str = "twinsynth"
    samples: int = Field(default=8, gt=0)  # rows of the sample grid
