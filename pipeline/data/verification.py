"""Checks of an image set before scoring: a stray mask, a file of another size or a copy would bias every number."""

import io
import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.data import nifti, shards
from pipeline.data.decoding import InvalidData
from pipeline.data.image_files import RGB_CHANNELS
from pipeline.data.image_set import HASHES, RATERS, ImageSet, Row
from pipeline.data.sample import DatasetSpec

LISTED = 10  # faults in one message


def verify(images: ImageSet) -> None:
    """Raise UserError naming every faulty file: missing, undecodable, wrong size or mode, a copy, not listed.

    Needs a whole set, not a selection. Only headers are read. Real images may be copies of each other: `prepare`
    reports them.
    """
    faults = [*_unlisted(images), *_wrong_formats(images), *_copies(images)]
    if faults:
        more = f"\n  and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        listed = "".join(f"\n  {fault}" for fault in faults[:LISTED])
        raise UserError(f"{images.folder} cannot be scored:{listed}{more}\nRun the stage that makes it again")


def is_intact(folder: Path, row: Row) -> bool:
    """Return whether all files of a row, none of which lies in a shard, exist with the hashes in the row."""
    try:
        expected = [(row[name], row[column]) for name, column in HASHES.items()]
        expected += zip(row.get(RATERS, []), row.get(f"{RATERS}_sha256", []), strict=True)
        return all(files.sha256(folder / name) == sha256 for name, sha256 in expected)
    except (OSError, KeyError, ValueError):
        return False


def _unlisted(images: ImageSet) -> Iterator[str]:
    listed = {Path(shards.stored_path(row, "file_name")) for row in images}
    for parent in sorted({path.parent for path in listed}):
        for path in sorted((images.folder / parent).iterdir()):
            if path.relative_to(images.folder) not in listed:
                yield f"{path} is not in the manifest: masks and other files do not belong there"


def _wrong_formats(images: ImageSet) -> Iterator[str]:
    for row in images:
        path = images.folder / row["file_name"]
        if images.spec.ndim == 3:
            yield from _wrong_volume(path, images.spec)
        elif shards.is_in_shard(row, "file_name"):
            yield from _wrong_packed_picture(images, row)
        else:
            yield from _wrong_picture(path, path, images.spec)


def _wrong_packed_picture(images: ImageSet, row: Row) -> Iterator[str]:
    try:
        picture = io.BytesIO(images.content(row, "file_name"))
    except UserError as error:
        yield str(error)
    else:
        yield from _wrong_picture(images.folder / row[shards.SHARD] / row["file_name"], picture, images.spec)


def _wrong_picture(path: Path, source: Path | io.BytesIO, spec: DatasetSpec) -> Iterator[str]:
    colours = spec.channels == RGB_CHANNELS
    expected = (spec.size, spec.size * (1 if colours else spec.channels))  # contrasts lie one below the other
    try:
        with Image.open(source, formats=["PNG"]) as picture:
            size, mode = picture.size, picture.mode
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        yield f"{path} cannot be opened ({error})"
        return
    if size != expected:
        yield f"{path} has {size[0]} x {size[1]} pixels, but the set has {expected[0]} x {expected[1]}"
    if mode != ("RGB" if colours else "L"):
        yield f"{path} has mode {mode}, expected {'RGB' if colours else 'L'}"


def _wrong_volume(path: Path, spec: DatasetSpec) -> Iterator[str]:
    expected = spec.spatial if spec.channels == 1 else (*spec.spatial, spec.channels)
    try:
        shape = nifti.read_shape(path)
    except InvalidData as fault:
        yield f"{path} {fault}"
        return
    if shape != expected:
        yield f"{path} has {list(shape)} voxels, but the set has {list(expected)}"


def _copies(images: ImageSet) -> Iterator[str]:
    first: dict[str, str] = {}
    for row in images:
        name = first.setdefault(row["sha256"], row["file_name"])
        if row["synthetic"] and name != row["file_name"]:
            yield f"{images.folder / row['file_name']} is the same file as {name}"
