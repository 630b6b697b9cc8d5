"""The manifest of an image set: one JSON object a line, sorted by id, written and sorted without holding all rows."""

import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from pipeline import files
from pipeline.errors import UserError

MANIFEST = "metadata.jsonl"
RUN = 20_000  # rows sorted in memory at once
Row = dict[str, Any]
Line = tuple[str, str]  # id, JSON


@contextmanager
def writing(folder: Path, rows: Iterable[Row]) -> Iterator[Path]:
    """Writes the manifest of `folder`; it appears when the block ends, after whatever the block writes beside it.

    Yields the finished file under its temporary name. Raises UserError where two rows have one id.
    """
    with files.replacing(folder / MANIFEST) as temporary:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            last = None
            for name, line in in_order(rows, folder):
                if name == last:
                    raise UserError(f"{folder}: two images have the id {name}; rename one and run the stage again")
                file.write(line + "\n")
                last = name
        yield temporary


def read(folder: Path) -> tuple[Row, ...]:
    """All rows. Raises UserError naming the line that is no JSON object with an id."""
    with (folder / MANIFEST).open(encoding="utf-8") as file:
        return tuple(_row(folder, number, line) for number, line in enumerate(file, 1))


def in_order(rows: Iterable[Row], folder: Path) -> Iterator[Line]:
    """The rows by id; beyond RUN rows, sorted runs lie in nameless files of `folder` and are merged."""
    waiting = iter(rows)
    with ExitStack() as opened:
        runs: list[Iterable[Line]] = []
        while lines := sorted((row["id"], json.dumps(row, sort_keys=True)) for row in islice(waiting, RUN)):
            if runs or len(lines) == RUN:
                runs.append(_stored(lines, opened.enter_context(_nameless(folder))))
            else:
                runs.append(lines)
        yield from heapq.merge(*runs)


def _nameless(folder: Path) -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n", dir=folder)


def _stored(lines: list[Line], file: IO[str]) -> Iterator[Line]:
    file.writelines(f"{json.dumps(name)}\t{line}\n" for name, line in lines)  # JSON holds no raw tab or line feed
    file.seek(0)
    return ((json.loads(name), line.rstrip("\n")) for name, _, line in (text.partition("\t") for text in file))


def _row(folder: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
        row["id"]
    except (ValueError, TypeError, KeyError):
        raise UserError(
            f"{folder / MANIFEST}, line {number} is no JSON object with an id; run the stage that makes it again"
        ) from None
    return row
