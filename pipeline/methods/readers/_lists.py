"""Lists that stand beside the images: splits/{train,val,test}.txt and manifest.csv."""

import csv
import io
import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pipeline.data import nifti
from pipeline.data.decoding import IMAGE_TYPES, Fault, Faulty, inside, shown
from pipeline.data.splitting import SPLITS

Table = dict[str, dict[str, str]]  # key of a pair -> row of the manifest
log = logging.getLogger(__name__)


def key(stem: str) -> str:
    """What makes two stems the same: composed Unicode, whatever the case (so that every file system agrees)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold())


def read_splits(root: Path, images: Mapping[str, Path]) -> tuple[dict[str, str], list[Fault]]:
    """Split by key of splits/{train,val,test}.txt (one stem or file name a line), and what is wrong with the lists."""
    splits: dict[str, str] = {}
    faults: list[Fault] = []
    for path in sorted((root / "splits").glob("*.txt")):
        where = shown(path, root)
        if path.stem not in SPLITS:
            faults.append(Fault(where, f"is not one of {', '.join(SPLITS)} (.txt); rename or remove it"))
            continue
        try:
            names = _lines(inside(path, root))
        except UnicodeDecodeError:
            faults.append(Fault(where, "is not UTF-8 text; save it as UTF-8"))
            continue
        except (OSError, Faulty) as error:
            faults.append(Fault(where, getattr(error, "strerror", None) or str(error)))
            continue
        if not names:
            faults.append(Fault(where, "is empty; name images in it, or remove it to have the split drawn"))
        faults += _enter(names, path.stem, where, images, splits)
    return splits, faults


def chosen(splits: Mapping[str, str], images: Mapping[str, Path]) -> set[str]:
    """Keys of the images to use: those that are listed where there is a list for train, else all."""
    used = set(splits) if "train" in splits.values() else set(images)
    if left_out := len(images.keys() - used):
        log.warning("images in no split list, left out: %d", left_out)
    return used & images.keys()


def _enter(names: list[str], split: str, where: str, images: Mapping[str, Path], splits: dict[str, str]) -> list[Fault]:
    """Puts the names of one list into `splits`."""
    keys = [(name, _key_of_line(name, images)) for name in names]
    times = Counter(own for _, own in keys)
    faults = [
        Fault(where, f"names {_short(own)} {count} times; once is enough") for own, count in times.items() if count > 1
    ]
    for own, name in {own: name for name, own in keys}.items():
        if own not in images:
            faults.append(Fault(where, f"names {_short(name)}, but there is no such image"))
        elif own in splits:
            faults.append(Fault(where, f"names {_short(name)}, which splits/{splits[own]}.txt names too; keep one"))
        else:
            splits[own] = split
    return faults


def _key_of_line(line: str, images: Mapping[str, Path]) -> str:
    """The key that a line of a list means: a stem, a file name, or a path with either slash."""
    if key(line) in images:
        return key(line)
    name = PurePosixPath(line.replace("\\", "/"))
    return key(name.stem if name.suffix.lower() in IMAGE_TYPES else nifti.stem(name))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


def read_manifest(root: Path, images: Mapping[str, Path], source_column: str) -> tuple[Table, list[Fault]]:
    """Rows of manifest.csv by key where it has a column `group` or the one that names sources; else nothing."""
    path = root / "manifest.csv"
    if not path.is_file():
        return {}, [
            Fault("manifest.csv", f"is missing, data.source_column names {source_column}")
        ] if source_column else []
    try:
        reader = csv.DictReader(io.StringIO(inside(path, root).read_text(encoding="utf-8-sig")), restval="")
        rows, columns = list(reader), list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error, Faulty) as error:
        return {}, [Fault("manifest.csv", f"cannot be read ({error}); save it as UTF-8 with commas")]
    if source_column and source_column not in columns:
        return {}, [
            Fault("manifest.csv", f"has no column {source_column} (data.source_column); it has: {', '.join(columns)}")
        ]
    if not source_column and "group" not in columns:
        return {}, []
    if "id" not in columns:
        return {}, [Fault("manifest.csv", f"has no column id; it has: {', '.join(columns)}")]
    return _rows_by_key(rows, images)


def _rows_by_key(rows: list[dict[str, str]], images: Mapping[str, Path]) -> tuple[Table, list[Fault]]:
    table: Table = {}
    faults = []
    for row in rows:
        own = _key_of_line(row["id"] or "", images)
        if own in table and table[own] != row:
            faults.append(Fault("manifest.csv", f"names {_short(row['id'])} twice with different rows; keep one"))
        table.setdefault(own, row)
    faults += [
        Fault("manifest.csv", f"has no row for {path.name!r}") for own, path in images.items() if own not in table
    ]
    return table, faults
