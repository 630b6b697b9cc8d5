"""Lists beside the images: splits/{train,val,test}.txt and manifest.csv."""

import csv
import io
import logging
import unicodedata
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pipeline.data import nifti
from pipeline.data.decoding import IMAGE_TYPES, Fault, InvalidData, display_path, ensure_inside
from pipeline.data.splitting import SPLITS

Table = dict[str, dict[str, str]]  # key of a pair -> row of the manifest
log = logging.getLogger(__name__)


def key(stem: str) -> str:
    """Return the key by which stems are compared: composed Unicode, case-folded (the same on every file system)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", stem).casefold())


def read_splits(root: Path, images: Mapping[str, Path]) -> tuple[dict[str, str], list[Fault]]:
    """Return splits by key from splits/{train,val,test}.txt (one stem or file name a line), and faults of the lists."""
    splits: dict[str, str] = {}
    faults: list[Fault] = []
    for path in sorted((root / "splits").glob("*.txt")):
        location = display_path(path, root)
        if path.stem not in SPLITS:
            faults.append(Fault(location, f"is not one of {', '.join(SPLITS)} (.txt); rename or remove it"))
            continue
        try:
            names = _lines(ensure_inside(path, root))
        except UnicodeDecodeError:
            faults.append(Fault(location, "is not UTF-8 text; save it as UTF-8"))
            continue
        except (OSError, InvalidData) as error:
            faults.append(Fault(location, getattr(error, "strerror", None) or str(error)))
            continue
        if not names:
            faults.append(Fault(location, "is empty; name images in it, or remove it to have the split drawn"))
        faults += _add_names(names, path.stem, location, images, splits)
    return splits, faults


def selected(splits: Mapping[str, str], images: Mapping[str, Path]) -> set[str]:
    """Return the keys of the images to use: the listed ones if there is a list for train, else all."""
    used = set(splits) if "train" in splits.values() else set(images)
    if left_out := len(images.keys() - used):
        log.warning("images in no split list, left out: %d", left_out)
    return used & images.keys()


def _add_names(
    names: list[str], split: str, location: str, images: Mapping[str, Path], splits: dict[str, str]
) -> list[Fault]:
    """Add the names of one list to `splits`, and return their faults."""
    keys = [(name, _key_of_entry(name, images)) for name in names]
    times = Counter(image for _, image in keys)
    faults = [
        Fault(location, f"names {_short(image)} {count} times; once is enough")
        for image, count in times.items()
        if count > 1
    ]
    for image, name in {image: name for name, image in keys}.items():
        if image not in images:
            faults.append(Fault(location, f"names {_short(name)}, but there is no such image"))
        elif image in splits:
            faults.append(
                Fault(location, f"names {_short(name)}, which splits/{splits[image]}.txt also names; keep one")
            )
        else:
            splits[image] = split
    return faults


def _key_of_entry(line: str, images: Mapping[str, Path]) -> str:
    """Return the key that a line of a list refers to: a stem, a file name, or a path with either slash."""
    if key(line) in images:
        return key(line)
    name = PurePosixPath(line.replace("\\", "/"))
    return key(name.stem if name.suffix.lower() in IMAGE_TYPES else nifti.stem(name))


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _short(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")


def read_manifest(root: Path, images: Mapping[str, Path], source_column: str) -> tuple[Table, list[Fault]]:
    """Return rows of manifest.csv by key if it has a column `group` or the one that names sources; else nothing."""
    path = root / "manifest.csv"
    if not path.is_file():
        return {}, [
            Fault("manifest.csv", f"is missing, but data.source_column names {source_column}")
        ] if source_column else []
    try:
        reader = csv.DictReader(io.StringIO(ensure_inside(path, root).read_text(encoding="utf-8-sig")), restval="")
        rows, columns = list(reader), list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error, InvalidData) as error:
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
        image = _key_of_entry(row["id"] or "", images)
        if image in table and table[image] != row:
            faults.append(Fault("manifest.csv", f"names {_short(row['id'])} twice with different rows; keep one"))
        table.setdefault(image, row)
    faults += [
        Fault("manifest.csv", f"has no row for {path.name!r}") for image, path in images.items() if image not in table
    ]
    return table, faults
