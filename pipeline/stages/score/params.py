"""The section `score` of a study: which scores of synthetic image sets are computed, and how."""

from collections.abc import Mapping

from pydantic import Field

from pipeline.core.section import Section


class WeightFile(Section):
    """A file of weights that the user names."""

    file: str
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")  # None: that of the publisher


class Score(Section):
    """Scores of synthetic image sets."""

    metrics: tuple[str, ...] = ("frechet", "kernel", "faithfulness")
    extractors: tuple[str, ...] = ("efficientnet_lite0",)
    weights: Mapping[str, WeightFile] = {}  # by extractor; else the folder weights/, else the publisher's download
    resamples: int = Field(default=1000, ge=100)
    subsets: int = Field(default=100, gt=0)  # of the kernel distance
    subset_size: int = Field(default=100, gt=1)
