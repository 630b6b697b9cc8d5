"""What every export format is given and shares: splits, options, the files of a pair, the columns of a row."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.data.image_set import HASHES, ImageSet, Row
from pipeline.data.shards import described

Splits = Mapping[str, ImageSet]  # "train" first, then "val" and "test" where real images go along; none is empty
PUBLIC_NAMES = {"train": "train", "val": "validation", "test": "test"}  # as Hugging Face's loaders know them
TEXT = ("id", "prompt", "source", "source_id", "generator", "seed", "sha256", "mask_sha256")


@dataclass(frozen=True)
class ExportOptions:
    """The options that users set for the formats."""

    name: str  # of the exported set: letters, digits and _
    seed: int = 0  # of the folds
    folds: int = 5  # nnunet
    dataset_id: int = 501  # nnunet; 1 to 999
    shard_size: int = 1000  # pairs per file of parquet and webdataset


def read_pair(images: ImageSet, row: Row) -> tuple[bytes, bytes]:
    """Return the files of image and mask. Raises UserError where a file does not have the hash in the manifest."""
    return _read_verified(images, row, "file_name"), _read_verified(images, row, "mask")


def copy_pair(images: ImageSet, row: Row, image: Path, mask: Path) -> None:
    """Write the files of a pair to the two paths, creating their folders."""
    for path, content in zip((image, mask), read_pair(images, row), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def flat_columns(row: Row) -> dict[str, Any]:
    """Return the same columns with the same types for every row, real or synthetic.

    These are TEXT ("" where there is no value), `copy`, `synthetic`, and `more`, which is JSON of all other columns.
    """
    text = {key: "" if row.get(key) is None else str(row[key]) for key in TEXT}
    more = {key: value for key, value in described(row).items() if key not in (*TEXT, "copy", "synthetic", "split")}
    typed = {"copy": int(row["copy"]), "synthetic": bool(row["synthetic"])}
    return {**text, **typed, "more": json.dumps(more, sort_keys=True)}


def chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Yield the rows in lists of `size`; the last list may be shorter."""
    remaining = iter(rows)
    while part := list(islice(remaining, size)):
        yield part


def class_names(num_classes: int) -> list[str]:
    """Return the names of the labels 0 to K-1."""
    return ["background", *(f"class_{label}" for label in range(1, num_classes))]


def _read_verified(images: ImageSet, row: Row, column: str) -> bytes:
    content = images.content(row, column)
    if hashlib.sha256(content).hexdigest() != row[HASHES[column]]:
        path = images.folder / row[column]
        raise UserError(f"{path} is not the file that the manifest lists (sha256); run the stage that makes it again")
    return content
