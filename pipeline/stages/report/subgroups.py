"""Subgroups in the report: a table per column of compare.subgroups, with the harmed subgroups named above them."""

from collections.abc import Sequence
from typing import Any

Record = dict[str, Any]


def rows_by_column(rows: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the rows of a comparison of subgroups by their column; {} where none was asked for."""
    tables: dict[str, list[Record]] = {}
    for row in rows:
        tables.setdefault(row["column"], []).append(row)
    return tables


def summary(rows: Sequence[Record]) -> str:
    """Return in a sentence how many comparisons were made, and in which subgroups an arm is worse or better."""
    tested = [row for row in rows if row["p"] is not None]
    if not tested:
        return "No comparison could be tested, because each has too few images or seeds." if rows else ""
    several = len({row["segmenter"] for row in rows}) > 1
    parts = [
        f"{word} in {len(found)} ({'; '.join(_place(row, several) for row in found)})" if found else f"{word} in none"
        for word in ("worse", "better")
        for found in [[row for row in tested if row["verdict"] == word]]
    ]
    left = len(rows) - len(tested)
    untested = f" {left} had too few images or seeds for a test." if left else ""
    tests = f"{len(tested)} tested comparison{'s' if len(tested) != 1 else ''}"
    return f"Of {tests}, the arm is {' and '.join(parts)}.{untested}"


def _place(row: Record, several: bool) -> str:
    """Return in words where a row belongs; `several` segmenters are named."""
    segmenter = f"{row['segmenter']}, " if several else ""
    models = ", trained again" if row["models"] == "confirmation" else ""
    return f"{segmenter}{row['training_set']} on {row['column']} {row['level']}{models}"
