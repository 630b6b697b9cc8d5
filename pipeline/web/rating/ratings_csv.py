"""CSV files of ratings: the one that the stage score reads, and those that raters' saved pages write."""

import csv
import io
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.data.ratings import COLUMNS
from pipeline.web.rating.answers import Answer, save, take_back
from pipeline.web.rating.blinding import ID
from pipeline.web.rating.raters import Rater
from pipeline.web.refusals import Refused

EXTRA = ("position", "remark")  # where the image stood in the rater's order, from 1
SAVED_COLUMNS = ("image", "quality", "real", "remark", "rating")  # columns of a saved page's file
LARGEST = 16 * 2**20  # bytes of such a file
FORMULA = ("=", "+", "-", "@")  # with which spreadsheets begin what they compute


def export_ratings(connection: sqlite3.Connection, path: Path) -> int:
    """Write all ratings as data.ratings reads them, by rater and position; return their number."""
    rows = connection.execute(
        """SELECT name, images.id, arm, quality, looks_real, position + 1, remark
        FROM ratings JOIN tasks USING (image) JOIN raters USING (rater) JOIN images USING (item)
        ORDER BY folded, position"""
    ).fetchall()
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*COLUMNS, *EXTRA))
    writer.writerows((*row[:-1], _escaped(row[-1])) for row in rows)
    files.write_bytes(path, text.getvalue().encode())
    return len(rows)


def import_ratings(connection: sqlite3.Connection, path: Path, *, replace: bool = False) -> int:
    """Save the ratings of a saved page's file; return how many were new. Raises UserError naming every refused line.

    The same ratings again change nothing. An image that was rated otherwise is refused, or, with `replace`, its older
    rating is taken back.
    """
    faults, new = [], 0
    for number, line in _lines(path):
        try:
            rater, answer = _answer(connection, line)
            if replace:
                _take_back_older(connection, answer)
            new += save(connection, rater, answer, in_order=False)
        except Refused as refusal:
            faults.append(f"{path}, line {number}: {refusal}")
    if faults:
        raise UserError("\n".join(["nothing was imported:", *faults]))
    return new


def _escaped(remark: str) -> str:
    return f"'{remark}" if remark.startswith(FORMULA) else remark


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield number and cells of each line. Raises UserError where the file is not the CSV of a saved page."""
    if path.stat().st_size > LARGEST:
        raise UserError(f"{path} has more than {LARGEST} bytes; a saved page never writes so much")
    try:
        reader = csv.DictReader(path.read_text(encoding="utf-8-sig").splitlines(), restval="")
        header = [name.strip() for name in reader.fieldnames or ()]
        if missing := [name for name in SAVED_COLUMNS if name not in header]:
            raise UserError(f"{path}, line 1: no column {', '.join(missing)}; is it the file that a rating page saved?")
        reader.fieldnames = header
        lines = [(reader.line_num, {name: cells[name] for name in SAVED_COLUMNS}) for cells in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8 ({error}); import the file as the page saved it") from None
    yield from lines


def _answer(connection: sqlite3.Connection, line: dict[str, str]) -> tuple[Rater, Answer]:
    """Return the rating of a line and who gave it. Raises Refused."""
    if line["quality"] not in ("1", "2", "3", "4", "5") or line["real"] not in ("0", "1"):
        raise Refused(422, f"quality is {line['quality']!r} and real {line['real']!r}; they are 1 to 5 and 0 or 1")
    if not re.fullmatch(ID, line["rating"]):
        raise Refused(422, f"{line['rating']!r} is no id of a rating")
    row = connection.execute(
        "SELECT rater, name FROM tasks JOIN raters USING (rater) WHERE image = ?", (line["image"],)
    ).fetchone()
    if row is None:
        raise Refused(404, f"the image {line['image']!r} is not of this study")
    remark = line["remark"].removeprefix("'") if line["remark"][1:2] in FORMULA else line["remark"]
    answer = Answer(line["rating"], line["image"], int(line["quality"]), line["real"] == "1", remark)
    return Rater(*row), answer


def _take_back_older(connection: sqlite3.Connection, answer: Answer) -> None:
    row = connection.execute("SELECT rating FROM ratings WHERE image = ?", (answer.image,)).fetchone()
    if row is not None and row[0] != answer.rating:
        take_back(connection, row[0])
