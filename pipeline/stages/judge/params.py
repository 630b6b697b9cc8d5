"""The section `judge` of a study: the segmenter that measures how well synthetic images follow their masks."""

from pydantic import Field

from pipeline.core.section import Section

FOLDS = 2  # of the training pairs, where judges are cross-fitted


class Judge(Section):
    """The segmenter, trained on real images only, that measures mask faithfulness; a key of `segmenters`."""

    segmenter: str
    max_steps: int | None = Field(default=None, gt=0)  # None: as in segment
    # Two judges, each trained on half of the training pairs, judge the images of the other half's masks. False: one
    # judge of all pairs, to which a copy of a training image looks faithful.
    cross_fit: bool = False
