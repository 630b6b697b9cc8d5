"""The key `pseudo_labels` of `data.unlabelled`: which segmenters predict the masks of images without masks."""

from typing import Literal

from pydantic import Field

from pipeline.core.section import Section


class PseudoLabels(Section):
    """The segmenters, trained on the real training pairs, that predict masks for the images without masks."""

    segmenter: str
    """The entry of `segmenters` that predicts the masks."""
    networks: int = Field(default=2, ge=1, le=20)
    """Number of trainings of this segmenter in each round, from different random streams. Their probabilities are
    averaged.
    """
    rounds: int = Field(default=1, ge=1, le=10)
    """Number of rounds. In the second and later ones, new segmenters learn from the real pairs and from the images with
    the masks of the round before.
    """
    pseudo_share: float = Field(default=0.5, gt=0, lt=1)
    """Share of images with predicted masks in every batch, in the second and later rounds."""
    max_steps: int | None = Field(default=None, gt=0)
    """Optimiser steps of each training; `null` for those of the section `segment`."""
    augment: Literal["own", "strong"] | None = None
    """Augmentation in these trainings; `null` for `segment.augment`."""
