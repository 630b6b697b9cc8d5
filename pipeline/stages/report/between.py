"""Segmenters against each other in the report: a table and a drawing per metric."""

from collections.abc import Iterator
from typing import Any

from pipeline.stages.compare.segmenter_comparison import title
from pipeline.stages.report import figures
from pipeline.stages.report.drawing import Drawing
from pipeline.stages.report.figures import Difference
from pipeline.study import Params

Row = dict[str, Any]


def by_metric(params: Params, comparison: Row) -> dict[str, list[Row]]:
    """Rows of the comparison of segmenters by the metric's name in words; nothing where none was asked for."""
    chosen, tables = params.compare.segmenters, dict[str, list[Row]]()
    if chosen is None:
        return tables
    for row in comparison.get("segmenters", ()):
        better = "more" if chosen.sign(row["metric"]) > 0 else "less"
        tables.setdefault(f"{title(row['metric'])} ({better} is better)", []).append(row)
    return tables


def drawings(params: Params, comparison: Row) -> Iterator[Drawing]:
    """Per metric, every segmenter's difference from the reference with its interval."""
    chosen = params.compare.segmenters
    if chosen is None:
        return
    for metric in chosen.metrics:
        rows = [
            Difference(
                row["segmenter"], row["difference"], row["difference_low"], row["difference_high"], row["verdict"]
            )
            for row in comparison.get("segmenters", ())
            if row["metric"] == metric and row["role"] == "segmenter"
        ]
        margin, name = chosen.margin(metric, params.compare.margin), title(metric)
        if rows:
            yield figures.differences(f"segmenters {name}", rows, chosen.reference, margin, name)
