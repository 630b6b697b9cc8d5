"""What a run tells while it runs: progress on a terminal, losses as lines of CSV, metrics as flat JSON."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pipeline import files

T = TypeVar("T")


def progress(items: Iterable[T], title: str, total: int | None = None, visible: bool = True) -> Iterator[T]:
    """The items, with a progress bar and an ETA (rich shows plain lines where there is no terminal)."""
    from rich.progress import track

    yield from track(items, description=title, total=total, disable=not visible)


def write_metrics(path: Path, values: Mapping[str, Any]) -> None:
    """Writes metrics for `dvc metrics show`; a value that is not finite becomes null."""
    files.write_json(path, _finite(values))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> None:
    """Writes rows as CSV; the columns are those of the first row unless given."""
    columns = columns or (list(rows[0]) if rows else [])
    with files.replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
