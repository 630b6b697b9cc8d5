"""Segmenters against each other in the report: a table and a drawing per metric."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.stages.compare.params import Compare, SegmenterComparison
from pipeline.stages.compare.segmenter_comparison import title
from pipeline.stages.report import figures
from pipeline.stages.report.drawing import Drawing
from pipeline.stages.report.figures import Difference

Record = dict[str, Any]


def rows_by_metric(section: SegmenterComparison | None, rows: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the rows of a comparison of segmenters by the metric's name in words; {} where none was asked for."""
    tables: dict[str, list[Record]] = {}
    if section is None:
        return tables
    for row in rows:
        better = "higher" if section.sign(row["metric"]) > 0 else "lower"
        tables.setdefault(f"{title(row['metric'])} ({better} is better)", []).append(row)
    return tables


def drawings(compare: Compare, rows: Sequence[Record]) -> Iterator[Drawing]:
    """Yield, per metric, every segmenter's difference from the reference with its interval."""
    section = compare.segmenters
    if section is None:
        return
    for metric in section.metrics:
        differences = [
            Difference(
                row["segmenter"], row["difference"], row["difference_low"], row["difference_high"], row["verdict"]
            )
            for row in rows
            if row["metric"] == metric and row["role"] == "segmenter"
        ]
        margin, name = section.margin(metric, compare.margin), title(metric)
        if differences:
            yield figures.differences(f"segmenters {name}", differences, section.reference, margin, name)
