"""The section `compare` of a study: how arms are compared, and segmenters with each other on one training set."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

from pydantic import Field, model_serializer, model_validator
from pydantic_core.core_schema import SerializerFunctionWrapHandler

from pipeline.core.section import Section

LOWER_IS_BETTER = ("hd95", "msd", "ged", "volume_error")  # metrics of scores.csv of which less is better
DISTANCES = ("hd95", "msd", "volume_error")  # metrics that are no share of 1: compare.margin means nothing for them
SOURCE, LESION_SIZE = "source", "lesion_size"  # subgroups that need no column of data.attributes


class SegmenterComparison(Section):
    """Every entry of `segmenters` against the reference, paired by seed and image; the first metric is primary."""

    reference: str
    """The entry of `segmenters` that the others are compared with."""
    training_set: str | None = None
    """The training set on which segmenters are compared; `null` for `compare.reference`."""
    metrics: tuple[str, ...] = Field(default=("dice",), min_length=1)
    """Columns of `scores.csv` to compare. The first one is primary."""
    lower: tuple[str, ...] = ()
    """Further metrics for which lower is better, in addition to `hd95`, `msd`, `ged` and `volume_error`."""
    margins: Mapping[str, float] = {}
    """Difference below which two segmenters count as equivalent, by metric, where it is not `compare.margin`. Distances
    need one.
    """
    alpha: float = Field(default=0.01, gt=0, lt=0.5)
    """Level of the paired t-test over cases that the papers report; it decides no verdict."""

    def margin(self, metric: str, default: float) -> float:
        """Return the difference below which two segmenters count as equivalent; `default` is compare.margin."""
        return self.margins.get(metric, default)

    def sign(self, metric: str) -> int:
        """Return 1 where more is better, -1 where less is."""
        return -1 if {metric, base_metric(metric)} & {*LOWER_IS_BETTER, *self.lower} else 1

    @model_validator(mode="after")
    def margins_are_of_metrics(self) -> Self:
        if len(set(self.metrics)) < len(self.metrics):
            raise ValueError(f"metrics must differ, found {list(self.metrics)}")
        for key, values in (("margins", self.margins), ("lower", self.lower)):
            if unknown := [name for name in values if name not in self.metrics]:
                raise ValueError(f"{key} names {unknown[0]!r}; the metrics are: {', '.join(self.metrics)}")
        if nonpositive := [name for name, margin in self.margins.items() if margin <= 0]:
            raise ValueError(f"margins.{nonpositive[0]} must be above 0, found {self.margins[nonpositive[0]]}")
        without_margin = [name for name in self.metrics if base_metric(name) in DISTANCES and name not in self.margins]
        if without_margin:
            raise ValueError(
                f"{without_margin[0]} is not a share of 1; set margins.{without_margin[0]}, the difference below"
                " which two segmenters are equivalent"
            )
        return self


class Bands(Section):
    """A column of numbers, whose subgroups are bands."""

    column: str
    """A column of `data.attributes` that holds numbers."""
    edges: tuple[float, ...] = Field(min_length=1)
    """Where one band ends and the next begins, ascending: `[40, 60]` makes `below 40`, `40 to below 60` and `60 or
    more`.
    """

    @model_validator(mode="after")
    def edges_ascend(self) -> Self:
        if not all(map(math.isfinite, self.edges)) or any(low >= high for low, high in pairwise(self.edges)):
            raise ValueError(f"edges must be finite and ascend, found {list(self.edges)}")
        return self


class Compare(Section):
    """Comparison of arms with a reference arm."""

    reference: str = "real"
    """The training set that every other one is compared with."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence level of all intervals."""
    resamples: int = Field(default=20_000, ge=200)
    """Number of bootstrap resamples and of random sign flips. The smallest possible p is 1 / (`resamples` + 1)."""
    margin: float = Field(default=0.01, gt=0, lt=1)
    """Difference in Dice below which two arms count as equivalent. Choose it before you see results."""
    power: float = Field(default=0.8, gt=0.5, lt=1)
    """Probability with which a difference of the margin should be found, for the sample sizes in the tables."""
    segmenters: SegmenterComparison | None = None
    """Also compare the segmenters with each other."""
    subgroups: tuple[str | Bands, ...] = ()
    """Also compare every arm with the reference in each subgroup of the test images: columns of `data.attributes`,
    `source` (the test set) and `lesion_size` (thirds by the area of the foreground). A column of numbers needs `edges`.
    """

    @model_serializer(mode="wrap")
    def _omit_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out subgroups where there are none, so that earlier fingerprints stay valid."""
        return {key: value for key, value in handler(self).items() if key != "subgroups" or value}


def check_resamples(compare: Compare, comparisons: int) -> None:
    """Raise ValueError where Holm's correction over so many comparisons keeps the p of sign flips near the level."""
    level = 1 - compare.confidence
    fewest = math.floor(round(2 * comparisons / level, 6))  # comparisons / (fewest + 1) < level / 2
    if compare.resamples < fewest:
        raise ValueError(
            f"compare.resamples is {compare.resamples}: with {comparisons} comparisons no p can fall below half of"
            f" {level:.3g}; use at least {fewest}"
        )


def check_subgroups(compare: Compare, attributes: Sequence[str]) -> None:
    """Raise ValueError where a subgroup is named twice or is no column; `attributes` are those of data.attributes."""
    known = (SOURCE, LESION_SIZE, *attributes)
    columns = [column_of(subgroup) for subgroup in compare.subgroups]
    if unknown := [column for column in columns if column not in known]:
        raise ValueError(
            f"compare.subgroups names {unknown[0]!r}; the available ones are: {', '.join(known)}"
            " (data.attributes.columns adds columns of a table)"
        )
    if twice := [column for column, times in Counter(columns).items() if times > 1]:
        raise ValueError(f"compare.subgroups names {twice[0]!r} twice; keep one")
    if banded := [one.column for one in compare.subgroups if isinstance(one, Bands) and one.column not in attributes]:
        raise ValueError(f"compare.subgroups: {banded[0]} takes no edges; write {banded[0]} alone")


def column_of(subgroup: str | Bands) -> str:
    """Return the column that defines a subgroup."""
    return subgroup if isinstance(subgroup, str) else subgroup.column


def common_training_set(compare: Compare) -> str:
    """Return the training set on which segmenters are compared with each other, and of which the report shows most."""
    return (compare.segmenters and compare.segmenters.training_set) or compare.reference


def base_metric(metric: str) -> str:
    """Return a metric without its class and the rule of empty masks: hd95_2 and hd95_left_out are hd95."""
    metric = metric.removesuffix("_left_out")
    stem, _, last = metric.rpartition("_")
    return stem if stem and last.isdigit() else metric
