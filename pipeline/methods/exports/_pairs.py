"""What the formats share: the splits and settings of an export, the bytes of a pair, the columns of a row."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet, Row

Splits = Mapping[str, ImageSet]  # "train" first, then "val" and "test" where real images go along; none is empty
PUBLIC_NAMES = {"train": "train", "val": "validation", "test": "test"}  # as Hugging Face's loaders know them
TEXT = ("id", "prompt", "source", "source_id", "generator", "seed", "sha256", "mask_sha256")
FILES = ("file_name", "mask", "raters", "raters_sha256")


@dataclass(frozen=True)
class Settings:
    """What the formats let the user choose."""

    name: str  # of the exported set: letters, digits and _
    seed: int = 0  # of the folds
    folds: int = 5  # nnunet
    dataset_id: int = 501  # nnunet; 1 to 999
    shard_size: int = 1000  # pairs per file of parquet and webdataset


def pictures_only(splits: Splits, format_name: str) -> None:
    """Raises UserError where a format of pictures is asked to hold volumes or contrasts."""
    spec = splits["train"].spec
    if spec.ndim == 3 or spec.channels not in (1, 3):
        what = "volumes" if spec.ndim == 3 else f"images of {spec.channels} channels"
        raise UserError(f"the format {format_name} holds pictures, these are {what}; export them as nnunet")


def read(images: ImageSet, row: Row) -> tuple[bytes, bytes]:
    """The files of image and mask. Raises UserError where one is not the file that the manifest tells of."""
    return _verified(images.folder / row["file_name"], row["sha256"]), _verified(
        images.folder / row["mask"], row["mask_sha256"]
    )


def copy(images: ImageSet, row: Row, image: Path, mask: Path) -> None:
    """Writes the files of a pair to the two paths, in folders that need not exist."""
    for path, content in zip((image, mask), read(images, row), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def everything(row: Row) -> dict[str, Any]:
    """All columns of a row but the names of its files."""
    return {key: value for key, value in row.items() if key not in FILES}


def flat(row: Row) -> dict[str, Any]:
    """The same columns and types for every row, real or synthetic: TEXT ("" for none), copy, synthetic, and `more`.

    `more` is JSON of all further columns.
    """
    text = {key: "" if row.get(key) is None else str(row[key]) for key in TEXT}
    more = {key: value for key, value in everything(row).items() if key not in (*TEXT, "copy", "synthetic", "split")}
    plain = {"copy": int(row["copy"]), "synthetic": bool(row["synthetic"])}
    return {**text, **plain, "more": json.dumps(more, sort_keys=True)}


def chunks(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Rows in lists of `size`; the last may be shorter."""
    remaining = iter(rows)
    while part := list(islice(remaining, size)):
        yield part


def class_names(num_classes: int) -> list[str]:
    """Names of the labels 0 to K-1."""
    return ["background", *(f"class_{label}" for label in range(1, num_classes))]


def _verified(path: Path, sha256: str) -> bytes:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise UserError(
            f"{path} is not the file that the manifest tells of (sha256); run the stage that makes it again"
        )
    return content
