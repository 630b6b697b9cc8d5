"""The scores of all generators as one table of the page."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core import paths
from pipeline.metrics.images.score import current_record
from pipeline.networks import packaged_efficientnet
from pipeline.stages.base.manifest import network_of_losses
from pipeline.stages.compare.comparison import read_output

Record = dict[str, Any]
EXTRACTORS = {packaged_efficientnet.ARCHITECTURE: "efficientnet_lite0"}  # by the network whose features they are


@dataclass(frozen=True)
class GeneratorScores:
    """Records of scores.json by title and generator, each with its digits and notes; all generators are scored alike.

    `counts` holds the numbers of images by title, `unavailable` the titles of scores that no generator has by the
    reason.
    """

    rows: Mapping[str, Mapping[str, Record]]
    counts: Mapping[str, str]
    unavailable: Mapping[str, list[str]]
    has_p: bool


def read_scores(study: str, generators: Iterable[str]) -> GeneratorScores:
    """Read the scores of the generators of a study. Raises UserError where one has none."""
    table: dict[str, dict[str, Record]] = {}
    for generator in generators:
        for record in map(current_record, read_output(paths.scores(study, generator) / "scores.json")):
            digits = _digits(record["value"], record["floor"])
            table.setdefault(_title(record), {})[generator] = {
                **record,
                "digits": digits,
                "notes": _notes(record, digits),
            }
    unavailable: dict[str, list[str]] = {}
    for title, row in table.items():
        if not _has_value(row):
            unavailable.setdefault(next(iter(row.values()))["reason"], []).append(title)
    has_p = any(score["p_value"] is not None for row in table.values() for score in row.values())
    rows = {title: row for title, row in table.items() if _has_value(row)}
    return GeneratorScores(rows, {title: _counts(row) for title, row in rows.items()}, unavailable, has_p)


def extractor_in_losses(study: str, extractors: Collection[str]) -> str | None:
    """Return which of the extractors has the network that losses of the study's base use; None where none has."""
    extractor = EXTRACTORS.get(network_of_losses(study) or "")
    return extractor if extractor in extractors else None


def _title(record: Record) -> str:
    title = record["name"].replace(".", ", ").replace("_", " ")
    return title + (f" (against {record['variant'].replace('_', ' ')})" if record["variant"] else "")


def _notes(record: Record, digits: int) -> str:
    """Return what stands behind an interval: images left out, groups, and the subsets of a kernel distance."""
    groups, sd = record["n_groups"], record["subset_sd"]
    subsets = f"{record['subsets']} subsets of m = {record['subset_size']}"
    notes = [
        f"{record['left_out']} left out" if record["left_out"] else "",
        "" if groups is None else f"{groups} group{'' if groups == 1 else 's'}",
        f"no interval: {record['interval_reason']}" if record["interval_reason"] else "",
        "" if sd is None else f"SD {sd:.{digits}f} over {subsets}",
        f"{record['n_real']} real images" if record["n_real"] is not None else "",
    ]
    return "; ".join(note for note in notes if note)


def _counts(row: Mapping[str, Record]) -> str:
    """Return the number of images behind a row; where generators differ, that of each."""
    counts = [str(score["n"]) for score in row.values()]
    return counts[0] if len(set(counts)) == 1 else " / ".join(counts)


def _has_value(row: Mapping[str, Record]) -> bool:
    return any(score["value"] is not None for score in row.values())


def _digits(*values: float | None) -> int:
    return 1 if max(abs(value or 0.0) for value in values) >= 10 else 3
