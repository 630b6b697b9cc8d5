"""The scores of all generators as one table of the page."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core import paths
from pipeline.stages.compare.comparison import read_output

Record = dict[str, Any]


@dataclass(frozen=True)
class GeneratorScores:
    """Records of scores.json, each with its number of digits, by title and generator; all generators are scored alike.

    `unavailable` holds the titles of scores that no generator has, by the reason.
    """

    rows: Mapping[str, Mapping[str, Record]]
    unavailable: Mapping[str, list[str]]
    has_p: bool


def read_scores(study: str, generators: Iterable[str]) -> GeneratorScores:
    """Read the scores of the generators of a study. Raises UserError where one has none."""
    table: dict[str, dict[str, Record]] = {}
    for generator in generators:
        for record in read_output(paths.scores(study, generator) / "scores.json"):
            digits = _digits(record["value"], record["floor"])
            table.setdefault(_title(record), {})[generator] = {**record, "digits": digits}
    unavailable: dict[str, list[str]] = {}
    for title, row in table.items():
        if not _has_value(row):
            unavailable.setdefault(next(iter(row.values()))["reason"], []).append(title)
    has_p = any(score["p_value"] is not None for row in table.values() for score in row.values())
    return GeneratorScores({title: row for title, row in table.items() if _has_value(row)}, unavailable, has_p)


def _title(record: Record) -> str:
    title = record["name"].replace(".", ", ").replace("_", " ")
    return title + (f" (against {record['variant'].replace('_', ' ')})" if record["variant"] else "")


def _has_value(row: Mapping[str, Record]) -> bool:
    return any(score["value"] is not None for score in row.values())


def _digits(*values: float | None) -> int:
    return 1 if max(abs(value or 0.0) for value in values) >= 10 else 3
