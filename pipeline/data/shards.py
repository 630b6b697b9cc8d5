"""Tar shards of an image set, as WebDataset reads them: NUMBER.image.png, NUMBER.json and NUMBER.mask.png of each pair.

The manifest is the index: the row of a pair names its shard and where the bytes of its files lie in it. Equal pairs
give equal shards, because no time, owner or order of the file system is written.
"""

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.core.errors import UserError

FOLDER = "shards"
SHELF = 1000  # shards in one folder
SHARD = "shard"  # column of the shard's name, relative to the folder of the set
SPANS = {"file_name": ("image_offset", "image_size"), "mask": ("mask_offset", "mask_size")}  # in bytes, by column
COLUMN_TYPES: dict[str, type] = {SHARD: str, **{column: int for span in SPANS.values() for column in span}}
COLUMNS = tuple(COLUMN_TYPES)
NAMES = ("file_name", "mask", "raters", "raters_sha256", *COLUMNS)  # columns that say where files are
Row = Mapping[str, Any]


class ShardWriter:
    """Appends pairs to a tar archive. Keys are numbers because ids may have dots, at which WebDataset cuts names."""

    def __init__(self, tar: tarfile.TarFile, name: str) -> None:
        self.tar, self.name = tar, name

    def add(self, key: int, image: bytes, row: Row, mask: bytes) -> dict[str, Any]:
        """Append the files of a pair and the columns of its row; return the columns COLUMNS."""
        image_span = self._append(f"{key:09d}.image.png", image)
        self._append(f"{key:09d}.json", json.dumps(described(row), sort_keys=True).encode())
        mask_span = self._append(f"{key:09d}.mask.png", mask)
        return dict(zip(COLUMNS, (self.name, *image_span, *mask_span), strict=True))

    def _append(self, name: str, content: bytes) -> tuple[int, int]:
        """Append a file; return the offset of its content and its size."""
        entry = tarfile.TarInfo(name)  # its time and owner are 0 unless set
        entry.size = len(content)
        offset = self.tar.offset + tarfile.BLOCKSIZE  # after the header, which is one block for such short names
        self.tar.addfile(entry, io.BytesIO(content))
        return offset, len(content)


@contextmanager
def writing(folder: Path, name: str) -> Iterator[ShardWriter]:
    """Write the shard `name` of the set in `folder`; it gets its name when the block ends without an error."""
    with files.replacing(folder / name) as path, tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        yield ShardWriter(tar, name)


def described(row: Row) -> dict[str, Any]:
    """Return the columns of a row that do not say where its files are."""
    return {key: value for key, value in row.items() if key not in NAMES}


def name_of(number: int, count: int) -> str:
    """Return the name of a shard of a set of `count`, relative to the set's folder."""
    shelf = f"{number // SHELF:06d}/" if count > SHELF else ""
    return f"{FOLDER}/{shelf}{number:06d}.tar"


def is_in_shard(row: Row, column: str) -> bool:
    """Return whether the file in this column of a row lies in a shard."""
    return column in SPANS and SPANS[column][0] in row


def stored_path(row: Row, column: str) -> str:
    """Return the path of a row's file relative to the set's folder; of a file in a shard, the shard's."""
    return row[SHARD] if is_in_shard(row, column) else row[column]


def outside(row: dict[str, Any], column: str) -> dict[str, Any]:
    """Return a row whose file in this column lies in no shard any more."""
    kept = {key: value for key, value in row.items() if key not in SPANS[column]}
    return kept if any(is_in_shard(kept, other) for other in SPANS) else {k: v for k, v in kept.items() if k != SHARD}


def read_from_shard(folder: Path, row: Row, column: str) -> bytes:
    """Return the bytes of a row's file in a shard. Raises UserError where the shard is missing or too short."""
    path = folder / row[SHARD]
    offset, size = (row[name] for name in SPANS[column])
    try:
        with path.open("rb") as file:
            if offset + size <= os.fstat(file.fileno()).st_size:
                file.seek(offset)
                return file.read(size)
        fault = f"ends before {row[column]}, which the manifest places in it"
    except OSError as error:
        fault = f"cannot be read ({error.strerror})"
    raise UserError(f"{path} {fault}; remove {folder} and run the stage that makes it (dvc repro does both)")
