"""ImageSet, the data format between stages: a folder of images, masks and one line of metadata per image.

`images/*.png`, `masks/*.png` (label maps), `metadata.jsonl`, `spec.json`; Hugging Face's imagefolder loads it. Of very
large sets, the files may lie in tar shards (data/shards.py) instead; their names remain those of files to be unpacked.
Volumes are *.nii.gz. If several raters drew the mask of each image, `masks/r0/`, `masks/r1/` ... hold their masks, and
the mask beside them is the majority vote.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.data.image_files import file_suffix, image_bytes, majority_vote, mask_bytes, png, read_image, read_mask
from pipeline.data.manifest import MANIFEST, Row, read, writing
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.data.shards import SHARD, ShardWriter, is_in_shard, read_from_shard, stored_path

__all__ = ["MANIFEST", "ImageSet", "Row", "files_of", "finishing", "png", "write_image", "write_native", "write_pair"]
SPEC = "spec.json"
FOLDERS = {"file_name": "images", "mask": "masks"}  # column of a row: folder of its files
HASHES = {"file_name": "sha256", "mask": "mask_sha256"}  # column of a file: column of its hash
RATERS = "raters"  # column of the files of several raters' masks, one list per row
NATIVE = (
    "native_mask"  # column of masks at the images' own size, of validation and test, if data.native_masks asks for them
)


@dataclass(frozen=True)
class ImageSet:
    """A folder of pairs, or a selection of its rows (id, file_name, mask, split, source_id, copy, sha256 ...)."""

    folder: Path
    spec: DatasetSpec
    rows: tuple[Row, ...]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open a finished set. Raises UserError if the folder holds none, or not what was published."""
        if not (folder / MANIFEST).is_file():
            raise UserError(f"{folder} is not a finished image set: {MANIFEST} is missing; run the stage that makes it")
        if not (folder / SPEC).is_file():
            raise UserError(
                f"{folder} is not a complete image set: {SPEC} is missing; run the stage that makes it again"
            )
        files.check(folder)
        try:
            spec = DatasetSpec.model_validate(files.read_json(folder / SPEC))
        except ValidationError as error:
            fault = error.errors()[0]["msg"]
            raise UserError(f"{folder / SPEC} is damaged ({fault}); run the stage that makes it again") from None
        return cls(folder, spec, read(folder))

    @classmethod
    def create(cls, folder: Path, spec: DatasetSpec, samples: Iterable[tuple[Sample, Mapping[str, Any]]]) -> Self:
        """Write samples with further columns into `folder`; the manifest last, rows sorted by id."""
        rows = [write_pair(folder, sample, extra) for sample, extra in samples]
        return cls.finish(folder, spec, rows)

    @classmethod
    def finish(cls, folder: Path, spec: DatasetSpec, rows: Iterable[Row]) -> Self:
        """Write the manifest of pairs that `write_pair` has written."""
        with finishing(folder, spec, rows):
            pass
        return cls.open(folder)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @property
    def ids(self) -> list[str]:
        """Ids in the order of the rows."""
        return [row["id"] for row in self.rows]

    @property
    def digest(self) -> str:
        """Fingerprint of the content of the selected rows (their hashes are part of the rows)."""
        return files.fingerprint(self.spec, list(self.rows))

    def select(self, rows: Iterable[Row]) -> Self:
        """Return the same folder with other rows."""
        return type(self)(self.folder, self.spec, tuple(rows))

    def split(self, name: str) -> Self:
        """Return the rows of one split."""
        return self.select(row for row in self.rows if row["split"] == name)

    def take(self, multiplier: int) -> Self:
        """Return the first `multiplier` copies of every mask, so that x1 is a subset of x2, and x2 of x4."""
        return self.select(row for row in self.rows if row["copy"] < multiplier)

    def image(self, row: Row) -> NDArray[np.uint8] | NDArray[np.float32]:
        """Return [C, H, W] uint8, of volumes [C, X, Y, Z] float32 in [0, 1]."""
        path, content = self._located(row, "file_name")
        return read_image(path, self.spec, content)

    def picture(self, row: Row) -> NDArray[np.uint8]:
        """Return [C, H, W] uint8, for code that supports pictures only. Raises UserError for volumes."""
        if self.spec.ndim != 2:
            raise UserError(f"{self.folder} holds volumes, but this works only with pictures")
        return np.asarray(self.image(row), np.uint8)

    def mask(self, row: Row) -> NDArray[np.uint8]:
        """Return the label map [*spatial] uint8; 0 is background. Of several raters the majority vote."""
        path, content = self._located(row, "mask")
        return read_mask(path, self.spec, content)

    def masks(self, row: Row) -> NDArray[np.uint8]:
        """Return the label maps [R, *spatial] of all raters; the mask of a synthetic image is repeated R times."""
        if names := row.get(RATERS):
            hashes = row.get(f"{RATERS}_sha256", [None] * len(names))
            mask_files = [self._verified(name, sha256) for name, sha256 in zip(names, hashes, strict=True)]
            return np.stack([read_mask(path, self.spec) for path in mask_files])
        mask = self.mask(row)
        return np.broadcast_to(mask, (self.spec.raters, *mask.shape))

    def native_mask(self, row: Row) -> NDArray[np.uint8]:
        """Return the label map [H, W] at the image's own size, of a set that has `native_columns`."""
        return read_mask(self._verified(row[NATIVE], row.get(f"{NATIVE}_sha256")), self.spec)

    def content(self, row: Row, column: str) -> bytes:
        """Return the file in the column `file_name` or `mask` as it is stored, without comparing its hash.

        Raises UserError where it should lie in a shard and does not, OSError where it is a file that cannot be read.
        """
        if is_in_shard(row, column):
            return read_from_shard(self.folder, row, column)
        return (self.folder / row[column]).read_bytes()

    def _located(self, row: Row, column: str) -> tuple[Path, bytes | None]:
        """Return the path of a row's file and, where it lies in a shard, its bytes. Raises UserError if it differs."""
        name, sha256 = row[column], row.get(HASHES[column])
        if not is_in_shard(row, column):
            return self._verified(name, sha256), None
        path, content = self.folder / row[SHARD] / Path(name).name, read_from_shard(self.folder, row, column)
        if sha256 is not None and files.sha256_of(content) != sha256:
            raise self._damage(path)
        return path, content

    def _verified(self, name: str, sha256: str | None) -> Path:
        """Return a file of a row. Raises UserError if its hash differs from the manifest."""
        path = self.folder / name
        if sha256 is not None and path.is_file() and files.sha256(path) != sha256:
            raise self._damage(path)
        return path

    def _damage(self, path: Path) -> UserError:
        return UserError(
            f"{path} is damaged and differs from what was written; remove {self.folder} and run the stage that makes it"
            " (dvc repro does both)"
        )

    @property
    def native_columns(self) -> tuple[str, str]:
        """Columns of masks at the images' own size. Raises UserError if a row has none."""
        if absent := [row["id"] for row in self if NATIVE not in row]:
            raise UserError(
                f"{self.folder}: {absent[0]} has no mask of its own size; set data.native_masks: true and run prepare"
            )
        return NATIVE, f"{NATIVE}_sha256"

    def sample(self, row: Row) -> Sample:
        """Decode the pair of one row."""
        return Sample(row["id"], self.image(row), self.masks(row), row["prompt"], row["split"], row["source"])

    def samples(self) -> Iterator[Sample]:
        """Decode the rows in order."""
        return map(self.sample, self.rows)


def files_of(row: Row) -> tuple[str, ...]:
    """Return the files of image and masks of all raters of a row, relative to its folder, without the native mask.

    Of a pair in a shard it is the shard.
    """
    stored = dict.fromkeys(stored_path(row, column) for column in FOLDERS)
    return *stored, *row.get(RATERS, ())


@contextmanager
def finishing(folder: Path, spec: DatasetSpec, rows: Iterable[Row]) -> Iterator[Path]:
    """Write spec and manifest without holding all rows; the manifest (yielded) gets its name when the block ends."""
    files.write_json(folder / SPEC, spec.model_dump())
    with writing(folder, rows) as written:
        yield written


def write_pair(
    folder: Path, sample: Sample, extra: Mapping[str, Any], text: Mapping[str, str] | None = None, subfolder: str = ""
) -> Row:
    """Write image and mask of one sample and return its row; `extra` holds source_id, copy, seed, generator.

    `text` is embedded into the image file; `subfolder` lies below images/ and masks/, for sets of very many files.
    """
    row = write_image(folder, sample, text, subfolder)
    mask, content = _file_name(sample, "mask", subfolder), mask_bytes(sample, majority_vote(sample.masks))
    files.write_bytes(folder / mask, content)
    return {
        **row,
        "mask": mask,
        HASHES["mask"]: files.sha256_of(content),
        **_write_raters(folder, sample, Path(subfolder) / Path(mask).name),
        **extra,
    }


def add_pair(
    shard: ShardWriter,
    key: int,
    sample: Sample,
    extra: Mapping[str, Any],
    text: Mapping[str, str] | None = None,
    subfolder: str = "",
) -> Row:
    """Append a picture with one mask to a shard, under the number `key`, and return its row; the rest as `write_pair`.

    The image is encoded faster than by `write_pair`, so it has the same pixels but another hash.
    """
    image, mask = image_bytes(sample, text, fast=True), mask_bytes(sample, majority_vote(sample.masks))
    row = _image_row(sample, image, subfolder)
    row = {**row, "mask": _file_name(sample, "mask", subfolder), HASHES["mask"]: files.sha256_of(mask), **extra}
    return {**row, **shard.add(key, image, row, mask)}


def write_image(folder: Path, sample: Sample, text: Mapping[str, str] | None = None, subfolder: str = "") -> Row:
    """Write the image of one sample and return its row, which names no mask; `text` is embedded into the file."""
    content = image_bytes(sample, text)
    row = _image_row(sample, content, subfolder)
    files.write_bytes(folder / row["file_name"], content)
    return row


def _image_row(sample: Sample, content: bytes, subfolder: str) -> Row:
    metadata = {"id": sample.id, "prompt": sample.prompt, "split": sample.split, "source": sample.source}
    defaults = {"source_id": sample.id, "copy": 0, "generator": None, "synthetic": False}
    name = _file_name(sample, "file_name", subfolder)
    return {**defaults, **metadata, "file_name": name, HASHES["file_name"]: files.sha256_of(content)}


def _file_name(sample: Sample, column: str, subfolder: str) -> str:
    return (Path(FOLDERS[column]) / subfolder / f"{sample.id}{file_suffix(sample)}").as_posix()


def _write_raters(folder: Path, sample: Sample, file_name: Path) -> Row:
    """Write the masks of several raters into a folder each and return their columns."""
    if len(sample.masks) == 1:
        return {}
    names = [(Path(FOLDERS["mask"]) / f"r{rater}" / file_name).as_posix() for rater in range(len(sample.masks))]
    contents = [mask_bytes(sample, mask) for mask in sample.masks]
    for name, content in zip(names, contents, strict=True):
        files.write_bytes(folder / name, content)
    return {RATERS: names, f"{RATERS}_sha256": [files.sha256_of(content) for content in contents]}


def write_native(folder: Path, sample: Sample) -> Row:
    """Write the mask at the image's own size, if there is one, and return its columns."""
    if not sample.native:
        return {}
    name = f"native/{sample.id}.png"
    files.write_bytes(folder / name, sample.native)
    return {NATIVE: name, f"{NATIVE}_sha256": files.sha256_of(sample.native)}
