"""The manifest of an image set: JSON lines sorted by id, written and sorted without holding all rows."""

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.data.shards import SHARD, SPANS

MANIFEST = "metadata.jsonl"
FILES = ("file_name", "mask", "native_mask", SHARD)  # columns that name files
PLACES = tuple(column for span in SPANS.values() for column in span)  # bytes in a shard
COLUMN_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("id", "prompt", "source", *FILES, "sha256", "mask_sha256"), str),
    **dict.fromkeys(("background_id", "control_image_id", "placed"), str),
    **dict.fromkeys(("split", "source_id", "generator"), (str, type(None))),
    **dict.fromkeys(("copy", *PLACES), int),
    "synthetic": bool,
    "raters": list,
}
RUN = 20_000  # rows sorted in memory at once
Row = dict[str, Any]
Line = tuple[str, str]  # id, JSON


@contextmanager
def writing(folder: Path, rows: Iterable[Row]) -> Iterator[Path]:
    """Write the manifest of `folder`; it gets its name when the block ends, after what the block writes beside it.

    Yields the finished file under its temporary name. Raises UserError if two rows have one id.
    """
    with files.replacing(folder / MANIFEST) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            last = None
            for name, line in sort_rows(rows, folder):
                if name == last:
                    raise UserError(f"{folder}: two images have the id {name}; rename one and run the stage again")
                file.write(line + "\n")
                last = name
        yield temporary


class ManifestRow(Row):
    """A row as read, with a helpful error for missing columns."""

    def __missing__(self, column: str) -> Any:
        """Raise UserError."""
        raise UserError(f"{MANIFEST}: the row {self.get('id')} has no {column}; run the stage that makes the set again")


def read(folder: Path) -> tuple[Row, ...]:
    """Return all rows. Raises UserError naming a line that is no JSON object with an id or leads out of the folder."""
    with (folder / MANIFEST).open("rb") as file:
        return tuple(_parse_row(folder, number, line) for number, line in enumerate(file, 1))


def sort_rows(rows: Iterable[Row], folder: Path) -> Iterator[Line]:
    """Yield the rows by id; beyond RUN rows, sorted runs are stored in unnamed files of `folder` and merged."""
    remaining = iter(rows)
    with ExitStack() as opened:
        runs: list[Iterable[Line]] = []
        while lines := sorted((row["id"], json.dumps(row, sort_keys=True)) for row in islice(remaining, RUN)):
            if runs or len(lines) == RUN:
                runs.append(_store_run(lines, opened.enter_context(_unnamed_file(folder))))
            else:
                runs.append(lines)
        yield from heapq.merge(*runs)


def _unnamed_file(folder: Path) -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder)


def _store_run(lines: list[Line], file: IO[str]) -> Iterator[Line]:
    file.writelines(f"{json.dumps(name)}\t{line}\n" for name, line in lines)  # JSON holds no raw tab or line feed
    file.seek(0)
    return ((json.loads(name), line.rstrip("\n")) for name, _, line in (text.partition("\t") for text in file))


def _parse_row(folder: Path, number: int, line: bytes) -> Row:
    row = ManifestRow()
    try:
        row = ManifestRow(json.loads(line.decode()))
        fault = "is no JSON object with an id" if "id" not in row else _fault(row)
    except (ValueError, TypeError, RecursionError):
        fault = "is no JSON object with an id"
    if fault:
        raise UserError(f"{folder / MANIFEST}, line {number} {fault}; run the stage that makes it again")
    return row


def _fault(row: Row) -> str | None:
    """Return what is wrong with the columns: values of another type, or names that lead out of the folder."""
    wrong_types = [
        column for column, kind in COLUMN_TYPES.items() if column in row and not isinstance(row[column], kind)
    ]
    if wrong_types:
        return f"has {row[wrong_types[0]]!r:.80} as {wrong_types[0]}"
    if negative := [column for column in PLACES if row.get(column, 0) < 0]:
        return f"has {row[negative[0]]} as {negative[0]}"
    names = [row[column] for column in FILES if column in row]
    names += row.get("raters", [])
    if outside := [name for name in names if not (isinstance(name, str) and _is_below_folder(name))]:
        return f"names the file {outside[0]!r:.80}, which is not below the set's folder"
    return (
        None
        if _is_below_folder(row["id"]) and "/" not in row["id"]
        else f"has the id {row['id']!r:.80}, no file's name"
    )


def _is_below_folder(name: str) -> bool:
    """Return whether a file of this name lies below the folder that it is relative to, on any system."""
    return bool(name) and not ({"", ".", ".."} & set(name.split("/")) or {"\\", "\0", ":"} & set(name))
