"""Checks an image set before it is scored: a stray mask, a file of another size or a copy would bias every number."""

import struct
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.data import nifti
from pipeline.data.decoding import Faulty
from pipeline.data.image_set import HASHES, RATERS, ImageSet, Row
from pipeline.data.sample import DatasetSpec
from pipeline.data.stored import COLOURS

SHOWN = 10  # faults told in one message


def verify(images: ImageSet) -> None:
    """Raises UserError that names every faulty file: missing, undecodable, wrong size or mode, a copy, not listed.

    Wants a whole set, not a selection. Only headers are read. Real images may be copies of each other: `prepare` has
    told of them.
    """
    faults = [*_unlisted(images), *_unlike(images), *_copies(images)]
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        told = "".join(f"\n  {fault}" for fault in faults[:SHOWN])
        raise UserError(f"{images.folder} cannot be scored:{told}{more}\nRun the stage that makes it again")


def intact(folder: Path, row: Row) -> bool:
    """Whether all files of a row are there with the content that the row tells."""
    try:
        wanted = [(row[name], row[column]) for name, column in HASHES.items()]
        wanted += zip(row.get(RATERS, []), row.get(f"{RATERS}_sha256", []), strict=True)
        return all(files.sha256(folder / name) == sha256 for name, sha256 in wanted)
    except (OSError, KeyError, ValueError):
        return False


def _unlisted(images: ImageSet) -> Iterator[str]:
    listed = {Path(row["file_name"]) for row in images}
    for parent in sorted({path.parent for path in listed}):
        for path in sorted((images.folder / parent).iterdir()):
            if path.relative_to(images.folder) not in listed:
                yield f"{path} is not in the manifest: masks and other files do not belong there"


def _unlike(images: ImageSet) -> Iterator[str]:
    check = _unlike_volume if images.spec.ndim == 3 else _unlike_picture
    for row in images:
        yield from check(images.folder / row["file_name"], images.spec)


def _unlike_picture(path: Path, spec: DatasetSpec) -> Iterator[str]:
    colours = spec.channels == COLOURS
    wanted = (spec.size, spec.size * (1 if colours else spec.channels))  # contrasts lie one below the other
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            size, mode = picture.size, picture.mode
    except (OSError, SyntaxError, ValueError, struct.error, Image.DecompressionBombError) as error:
        yield f"{path} cannot be opened ({error})"
        return
    if size != wanted:
        yield f"{path} has {size[0]} x {size[1]} pixels, the set {wanted[0]} x {wanted[1]}"
    if mode != ("RGB" if colours else "L"):
        yield f"{path} has mode {mode}, expected {'RGB' if colours else 'L'}"


def _unlike_volume(path: Path, spec: DatasetSpec) -> Iterator[str]:
    wanted = spec.spatial if spec.channels == 1 else (*spec.spatial, spec.channels)
    try:
        found = nifti.read_shape(path)
    except Faulty as fault:
        yield f"{path} {fault}"
        return
    if found != wanted:
        yield f"{path} has {list(found)} voxels, the set {list(wanted)}"


def _copies(images: ImageSet) -> Iterator[str]:
    first: dict[str, str] = {}
    for row in images:
        name = first.setdefault(row["sha256"], row["file_name"])
        if row["synthetic"] and name != row["file_name"]:
            yield f"{images.folder / row['file_name']} is the same file as {name}"
