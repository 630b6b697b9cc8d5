"""Ratings by clinicians: CSV files of a folder, one line per rater and image.

Columns: rater, image (its id), arm (a generator entry, or "real"), quality (1 to 5), real (1: the rater takes it for a
real image, 0: for a synthetic one). Further columns are ignored.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import UserError

COLUMNS = ("rater", "image", "arm", "quality", "real")
REAL = "real"
SCALE = ("1", "2", "3", "4", "5")  # absolute category rating: bad, poor, fair, good, excellent


@dataclass(frozen=True)
class Rating:
    """The rating of one image by one rater."""

    rater: str
    image: str
    arm: str
    quality: int
    is_taken_for_real: bool


def read_ratings(folder: Path) -> list[Rating]:
    """Return all ratings of a folder's *.csv files, none if there is no folder.

    Raises UserError with all faults; each names file, line and value.
    """
    faults: list[str] = []
    ratings: dict[tuple[str, str, str], Rating] = {}
    for path in sorted(folder.glob("*.csv")):
        for where, line in _lines(path, faults):
            line_faults = _faults(line)
            key = (line["rater"], line["arm"], line["image"])
            if key in ratings and not line_faults:
                line_faults = [f"{key[0]} has rated {key[2]} of {key[1]} before; keep one line"]
            faults += [f"{where}: {fault}" for fault in line_faults]
            if not line_faults:
                ratings[key] = Rating(key[0], key[2], key[1], int(line["quality"]), line["real"] == "1")
    if faults:
        raise UserError("\n".join(["the ratings cannot be read:", *faults]))
    return list(ratings.values())


def rating_table(ratings: Sequence[Rating]) -> NDArray[np.float64]:
    """Return quality [images, raters], NaN where a rater did not rate an image; both sorted by name."""
    raters = sorted({rating.rater for rating in ratings})
    images = sorted({(rating.arm, rating.image) for rating in ratings})
    rows = {image: k for k, image in enumerate(images)}
    quality = np.full((len(images), len(raters)), np.nan)
    for rating in ratings:
        quality[rows[rating.arm, rating.image], raters.index(rating.rater)] = rating.quality
    return quality


def _lines(path: Path, faults: list[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield location and stripped cells of each line; reasons why a file cannot be read are appended to `faults`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        faults.append(f"{path}: is not UTF-8 text; save it as CSV in UTF-8")
        return
    except OSError as error:
        faults.append(f"{path}: cannot be read ({error.strerror})")
        return
    reader = csv.DictReader(text.splitlines(), restval="")
    try:
        header = [name.strip() for name in reader.fieldnames or ()]
    except csv.Error as error:
        faults.append(f"{path}, line 1: is no CSV ({error})")
        return
    if missing := [name for name in COLUMNS if name not in header]:
        names = ", ".join(missing)
        faults.append(f"{path}, line 1: no column {names} in {','.join(header)!r}; it needs {','.join(COLUMNS)}")
        return
    reader.fieldnames = header
    try:
        for cells in reader:
            yield f"{path}, line {reader.line_num}", {name: cells[name].strip() for name in COLUMNS}
    except csv.Error as error:
        faults.append(f"{path}, after line {reader.line_num}: is no CSV ({error}); is a quotation mark left open?")


def _faults(line: dict[str, str]) -> list[str]:
    """Return what is wrong with one line."""
    faults = [f"{name} is empty" for name in ("rater", "image", "arm") if not line[name]]
    if line["quality"] not in SCALE:
        faults.append(f"quality is {line['quality']!r}; it must be 1, 2, 3, 4 or 5")
    if line["real"] not in ("0", "1"):
        faults.append(f"real is {line['real']!r}; it must be 0 or 1")
    return faults
