"""The section `judge` of a study: the segmenter that measures how well synthetic images follow their masks."""

from pydantic import Field

from pipeline.core.section import Section


class Judge(Section):
    """The segmenter, trained on real images only, that measures mask faithfulness; a key of `segmenters`."""

    segmenter: str
    max_steps: int | None = Field(default=None, gt=0)  # None: as in segment
