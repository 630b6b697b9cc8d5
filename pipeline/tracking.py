"""What a run tells while it runs: progress on a terminal and as lines in a log, losses as CSV, metrics as flat JSON."""

import csv
import logging
import math
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, TypeVar

from pipeline import files

T = TypeVar("T")
SOON, QUIET = 5.0, 15.0  # seconds until the first line of progress, and between two lines
FORMAT = "%(asctime)s %(message)s"
steps = logging.getLogger("pipeline.progress")  # a terminal shows bars instead of its lines


def progress(items: Iterable[T], title: str, total: int | None = None, visible: bool = True) -> Iterator[T]:
    """The items, with a progress bar and an ETA; lines now and then in the log, and where no terminal is."""
    from rich.progress import track

    total = len(items) if total is None and isinstance(items, Sized) else total
    started = spoken = time.monotonic()
    for count, item in enumerate(track(items, description=title, total=total, disable=not visible), 1):
        yield item
        now = time.monotonic()
        if visible and now - spoken >= (SOON if spoken == started else QUIET):
            spoken = now
            left = f" | {(now - started) / count * (total - count):.0f} s left" if total else ""
            steps.info("%s %d/%s%s", title, count, total or "?", left)


def start_log(path: Path) -> Path | None:
    """Sends all messages to standard error and to the file, which is begun anew; None where it cannot be written."""
    handlers: list[logging.Handler] = [on_screen()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w", encoding="utf-8"))
        handlers[-1].setFormatter(logging.Formatter(FORMAT))
    except OSError:
        path = None  # type: ignore[assignment]
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    return path


def on_screen() -> logging.Handler:
    """Messages to standard error, but for lines of progress where a terminal shows bars."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.addFilter(lambda record: record.name != steps.name or not sys.stderr.isatty())
    return handler


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
