"""The section `judge` of a study: the segmenter that measures how well synthetic images follow their masks."""

from pydantic import Field

from pipeline.core.section import Section

FOLDS = 2  # of the training pairs, where judges are cross-fitted


class Judge(Section):
    """The segmenter, trained on real images only, that measures mask faithfulness; a key of `segmenters`."""

    segmenter: str
    """The entry of `segmenters` that judges."""
    max_steps: int | None = Field(default=None, gt=0)
    """Optimiser steps of the judge; `null` for those of the section `segment`."""
    cross_fit: bool = False
    """Train two judges, each on half of the training pairs, and let each judge the images of the other half's masks.
    Without it one judge learns from all pairs, and a copy of a training image looks faithful to it.
    """
