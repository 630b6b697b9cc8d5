"""Columns of a table about the images (data.attributes), such as site or device, for comparisons by subgroup.

Only the columns that params.yaml names are kept, because other columns of such tables may identify patients.
"""

import csv
import io
import json
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core import paths, tables
from pipeline.core.errors import UserError
from pipeline.data import nifti
from pipeline.data.decoding import Fault
from pipeline.stages.prepare.params import Attributes, Data

SLICE = ", slice "  # what readers append to the file of a volume that holds several images
MANIFEST = "manifest.csv"
Values = dict[str, str]  # value by column; an empty value is not known
Line = tuple[str, Values]  # what a row names, and its values


def read_attributes(data: Data, locations: Sequence[str]) -> tuple[list[Values], list[Fault]]:
    """Return the values of every image, and the faults of the table; {} for each without data.attributes.

    `locations` are the images' files relative to data.root, or their ids. An image without a row has no known values.
    Raises UserError where there is no table.
    """
    wanted = data.attributes
    if wanted is None:
        return [{} for _ in locations], []
    path = _table(data, wanted)
    lines, faults = _read(path, wanted)
    images = _images_by_key(locations)
    found: dict[str, Values] = {}
    for name, values in lines:
        files = images.get(_key(name), set())
        if len(files) > 1:
            faults.append(Fault(path.name, f"names {name!r}, which {len(files)} images share; write the path"))
        for file in files:
            if found.setdefault(file, values) != values:
                faults.append(Fault(path.name, f"names {name!r} twice with different rows; keep one"))
    if not found and not faults:
        faults.append(Fault(path.name, "names none of the images; its ids must be their stems, file names or paths"))
    unknown = dict.fromkeys(wanted.columns, "")
    return [found.get(_file(location), unknown) for location in locations], faults


def write_attributes(study: str, columns: Sequence[str], values: Mapping[str, Values]) -> None:
    """Write the values of every image by its pseudonym; only the head of the table without data.attributes."""
    rows = [{"id": name, **values[name]} for name in sorted(values)] if columns else []
    tables.write_table(paths.attributes(study), rows, ["id", *columns])


def _table(data: Data, wanted: Attributes) -> Path:
    options = data.options
    if wanted.file is not None:
        path = Path(wanted.file)
    elif "file" in options:
        path = Path(str(options["file"]))
    elif "root" in options:
        path = Path(str(options["root"])) / MANIFEST
    else:
        raise UserError(f"data.attributes.file is missing; the reader {data.reader} has no table of its own")
    path = path.expanduser()
    if not path.is_file():
        raise UserError(f"data.attributes: {path} does not exist; set data.attributes.file to the table")
    return path


def _read(path: Path, wanted: Attributes) -> tuple[list[Line], list[Fault]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return _json_lines(path, text, wanted) if path.suffix == ".jsonl" else _csv(path, text, wanted)
    except UnicodeDecodeError:
        return [], [Fault(path.name, "is not UTF-8 text; save it as UTF-8")]
    except csv.Error as error:
        return [], [Fault(path.name, f"cannot be read ({error}); save it as UTF-8 with commas")]


def _csv(path: Path, text: str, wanted: Attributes) -> tuple[list[Line], list[Fault]]:
    reader = csv.DictReader(io.StringIO(text), restval="")
    rows, columns = list(reader), list(reader.fieldnames or [])
    if absent := [name for name in ("id", *wanted.columns) if name not in columns]:
        return [], [Fault(path.name, f"has no column {absent[0]}; it has: {', '.join(columns)}")]
    return [(str(row["id"]), _values(row, wanted)) for row in rows], []


def _json_lines(path: Path, text: str, wanted: Attributes) -> tuple[list[Line], list[Fault]]:
    lines: list[Line] = []
    faults: list[Fault] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row = _json_object(line)
        name = row and (row.get("id") or row.get("target"))
        if row is None or not name:
            faults.append(Fault(f"{path.name}, line {number}", "is no JSON object with the key id or target"))
        else:
            lines.append((str(name), _values(row, wanted)))
    keys = {key for line in lines for key, value in line[1].items() if value}
    if lines and not faults and (absent := [name for name in wanted.columns if name not in keys]):
        faults.append(Fault(path.name, f"has no line with a value of {absent[0]}"))
    return lines, faults


def _json_object(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def _values(row: Mapping[str, Any], wanted: Attributes) -> Values:
    return {name: "" if row.get(name) is None else " ".join(str(row[name]).split()) for name in wanted.columns}


def _images_by_key(locations: Iterable[str]) -> dict[str, set[str]]:
    """Return the files that a row may mean: by their path, its last parts, and each of these without the suffix."""
    images: dict[str, set[str]] = defaultdict(set)
    for file in {_file(location) for location in locations}:
        parts = file.split("/")
        for start in range(len(parts)):
            name = PurePosixPath(*parts[start:])
            stem = name.stem if nifti.stem(name) == name.name else nifti.stem(name)
            images[_key(str(name))].add(file)
            images[_key(str(name.with_name(stem)))].add(file)
    return images


def _file(location: str) -> str:
    return location.partition(SLICE)[0]


def _key(text: str) -> str:
    """Return the key by which names are compared: composed Unicode, case-folded, with forward slashes."""
    folded = unicodedata.normalize("NFC", text.replace("\\", "/").strip()).casefold()
    return unicodedata.normalize("NFC", folded)
