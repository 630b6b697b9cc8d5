"""Image sets as arrays: in memory or, if they are large, decoded once into files that all processes map.

The files lie in work/decoded/<digest of the rows>; they are complete once they are sealed.
"""

import math
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from pipeline.core import files, locks, paths
from pipeline.core.progress import track
from pipeline.data.image_set import ImageSet, Row

IN_MEMORY = 4 * 2**30  # bytes; larger sets are mapped, so that the processes of one machine share them


class Arrays(NamedTuple):
    """The images and masks of a set, in the order of its rows."""

    image: NDArray[Any]  # [N, C, *spatial] uint8, of volumes float32
    mask: NDArray[np.uint8]  # [N, *spatial]; the majority of several raters
    masks: NDArray[np.uint8] | None  # [N, R, *spatial] of several raters


def load_arrays(images: ImageSet) -> Arrays:
    """Return all images and masks of a non-empty set. Raises UserError if a file is damaged or the disk is full."""
    if _array_bytes(images) <= IN_MEMORY:
        image, mask = np.stack([images.image(row) for row in images]), np.stack([images.mask(row) for row in images])
        return Arrays(image, mask, np.stack([images.masks(row) for row in images]) if _is_multirater(images) else None)
    folder = paths.decoded(images.digest)
    with locks.wait_for(f"decoded_{folder.name}"):
        if not files.is_intact(folder):
            with files.writing_to(folder):
                _write((_decode(images, row) for row in track(images, "decode")), len(images), folder)
    mapped = {path.stem: np.load(path, mmap_mode="c") for path in folder.glob("*.npy")}  # c: nothing is written back
    return Arrays(mapped["image"], mapped["mask"], mapped.get("masks"))


def load_images(sets: Sequence[ImageSet]) -> NDArray[Any]:
    """Return the images [N, C, *spatial] of sets of one size, one after the other; their masks are not read.

    Raises UserError if a file is damaged or the disk is full.
    """
    rows = [(images, row) for images in sets for row in images]
    if sum(map(_image_bytes, sets)) <= IN_MEMORY:
        return np.stack([images.image(row) for images, row in rows])
    folder = paths.decoded(files.fingerprint("images", [images.digest for images in sets]))
    with locks.wait_for(f"decoded_{folder.name}"):
        if not files.is_intact(folder):
            with files.writing_to(folder):
                _write(({"image": images.image(row)} for images, row in track(rows, "decode")), len(rows), folder)
    return np.load(folder / "image.npy", mmap_mode="c")


def _image_bytes(images: ImageSet) -> int:
    spec = images.spec
    return len(images) * math.prod(spec.spatial) * spec.channels * (4 if spec.ndim == 3 else 1)


def _array_bytes(images: ImageSet) -> int:
    spec = images.spec
    masks = 1 + spec.raters if _is_multirater(images) else 1
    return _image_bytes(images) + len(images) * math.prod(spec.spatial) * masks


def _is_multirater(images: ImageSet) -> bool:
    return images.spec.raters > 1


def _decode(images: ImageSet, row: Row) -> dict[str, NDArray[Any]]:
    masks = {"masks": images.masks(row)} if _is_multirater(images) else {}
    return {"image": images.image(row), "mask": images.mask(row), **masks}


def _write(rows: Iterable[dict[str, NDArray[Any]]], count: int, folder: Path) -> None:
    """Write one array file per field of `count` rows, row by row, and the seal last."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        array_files: dict[str, BinaryIO] = {}
        for row in rows:
            for name, values in row.items():
                if name not in array_files:
                    array_files[name] = stack.enter_context((folder / f"{name}.npy").open("wb"))
                    shape = (count, *values.shape)
                    header = {"descr": dtype_to_descr(values.dtype), "fortran_order": False, "shape": shape}
                    write_array_header_1_0(array_files[name], header)
                array_files[name].write(values.tobytes())
    files.seal(folder)
