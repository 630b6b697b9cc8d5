"""The section `score` of a study: which scores of synthetic image sets are computed, and how."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from pipeline.core.section import Section

EARLIER_NAMES = {"subsets": "kid_subsets", "subset_size": "kid_subset_size"}


class WeightFile(Section):
    """A file of weights that the user names."""

    file: str
    """Path of the file."""
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    """The file's sha256; `null` for the publisher's."""


class Score(Section):
    """Scores of synthetic image sets."""

    metrics: tuple[str, ...] = ("frechet", "kernel", "faithfulness")
    """Scores to compute: files of `pipeline/methods/image_metrics`."""
    extractors: tuple[str, ...] = ("efficientnet_lite0",)
    """Networks whose features the scores compare: files of `pipeline/methods/features`."""
    weights: Mapping[str, WeightFile] = {}
    """Weight files by extractor. Others are looked for in the folder `weights/`, then fetched from their publisher."""
    judge_maps: bool = False
    """Publish what the judge predicts for every pixel. Training sets with `screen: {pixels: ...}`, `labels` or
    `resample` need it.
    """
    resamples: int = Field(default=1000, ge=100)
    """Bootstrap resamples of the intervals."""
    kid_subsets: int = Field(default=100, gt=0)
    """Random subsets over which the kernel distance (KID) is averaged."""
    kid_subset_size: int = Field(default=100, gt=1)
    """Images of each set in such a subset; papers take 1000."""

    @model_validator(mode="before")
    @classmethod
    def earlier_names_are_read(cls, values: Any) -> Any:
        """Read the names of earlier versions. Raises ValueError where both names of one parameter are there."""
        if not isinstance(values, Mapping):
            return values
        for old, name in EARLIER_NAMES.items():
            if old in values and name in values:
                raise ValueError(f"{old} is the earlier name of {name}; keep {name} alone")
        return {EARLIER_NAMES.get(key, key): value for key, value in values.items()}
