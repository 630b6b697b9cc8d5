"""The user's own masks: a folder of PNG files, all checked before the first one is used.

Values are read as those of training masks (data/labels.py); a `count` above their number repeats them in order. Source
ids are "bank/" and the file's stem: with the slash they are never taken for ids of real images.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import Field

from pipeline.core import files, seeding
from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.core.section import Section
from pipeline.data import labels
from pipeline.data.decoding import IMAGE_TYPES, Fault, InvalidData, display_path, read_mask
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.sample import DatasetSpec
from pipeline.methods.masks._bounds import Mask
from pipeline.methods.masks._sequence import LazyMasks, mask_id, require_images


class Params(Section):
    """Where the masks are, and whose prompts they take."""

    folder: Path
    """Folder of PNG masks. Its subfolders are not searched."""
    resize: bool = False
    """Resize masks of another size by nearest-neighbour interpolation; otherwise they are reported as faults."""
    source: str | None = Field(default=None, min_length=1)
    """Source whose prompt the masks take; `null` draws sources as the training images have them."""

    def files_digest(self) -> str:
        """Return a hash of the names and contents of all masks. Raises UserError where there are none."""
        return files.fingerprint([_identity(path) for path in _image_files(self.folder.expanduser())])


def build(params: Params, train: ImageSet, count: int | None, seed: str) -> LazyMasks:
    """Mask k is file k modulo their number. Raises UserError naming every file that cannot be used."""
    paths, rows = _image_files(params.folder.expanduser()), _matching_rows(require_images(train), params.source)
    checks = [_check(path, train.spec, params.resize) for path in paths]
    faults = [fault for fault in checks if isinstance(fault, Fault)] + list(_duplicate_stems(paths))
    if faults:
        raise UserError(f"{params.folder}: masks that cannot be used\n  " + "\n  ".join(map(str, faults)))
    if not any(checks):
        raise UserError(f"{params.folder}: every mask is empty (background only); are these the right files?")
    bank = _Bank(paths, train.spec, rows, seed)
    return LazyMasks(len(paths) if count is None else count, bank, params.files_digest())


@dataclass(frozen=True)
class _Bank:
    """Decodes a mask on access."""

    paths: Sequence[Path]
    spec: DatasetSpec
    rows: Sequence[Row]  # training images whose prompts and sources may be drawn
    seed: str

    def __call__(self, index: int) -> ConditioningMask:
        path = self.paths[index % len(self.paths)]
        stored = _labels(path, self.spec.num_classes)
        pixels = nearest(stored, self.spec.size)
        height, width = stored.shape
        transform = {} if stored.shape == pixels.shape else {"method": "bank", "resized_from": [height, width]}
        row = self.rows[int(seeding.numpy_rng(self.seed, "bank", index).integers(len(self.rows)))]
        name = mask_id("bank", index)
        return ConditioningMask(name, f"bank/{_stem(path)}", transform, pixels, row["prompt"], row["source"])


def nearest(mask: Mask, size: int) -> Mask:
    """Resize a mask [H, W] to size x size with nearest-neighbour interpolation, so that labels stay exact."""
    if mask.shape == (size, size):
        return mask
    return np.asarray(Image.fromarray(np.ascontiguousarray(mask)).resize((size, size), Image.Resampling.NEAREST))


def _image_files(folder: Path) -> list[Path]:
    """List the images of a folder in the order of their names, without hidden files; subfolders are not searched."""
    if not folder.is_dir():
        raise UserError(f"mask_params.folder: {folder} is not a folder")
    masks = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_TYPES and not path.name.startswith(".")]
    if not masks:
        raise UserError(f"mask_params.folder: {folder} holds no mask; put PNG files of label maps there")
    return sorted(masks)


def _matching_rows(train: ImageSet, source: str | None) -> Sequence[Row]:
    rows = [row for row in train if source in (None, row["source"])]
    if not rows:
        sources = ", ".join(sorted({row["source"] for row in train}))
        raise UserError(f"mask_params.source is {source!r}; the training images have: {sources}")
    return rows


def _check(path: Path, spec: DatasetSpec, resize: bool) -> Fault | bool:
    """Return whether a usable mask has any foreground, or why it cannot be used."""
    where = display_path(path, path.parent)
    try:
        _check_file(path)
        mask = _labels(path, spec.num_classes)
        _check_size(mask, spec.size, resize)
    except InvalidData as fault:
        return Fault(where, str(fault))
    return bool(mask.any())


def _check_file(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise InvalidData("is not a PNG file; other formats may change labels, so save it as PNG")
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(path.parent)):
        raise InvalidData("is a link to a file outside the folder; put the file itself there")
    if not path.is_file():
        raise InvalidData("is not a file, or is a broken link; remove it")


def _labels(path: Path, num_classes: int) -> Mask:
    return labels.label_map(read_mask(path)[0], num_classes)[0]


def _check_size(mask: Mask, size: int, resize: bool) -> None:
    height, width = mask.shape
    if (height, width) != (size, size) and not resize:
        raise InvalidData(
            f"is {width} x {height} pixels, but data.size is {size}; resize it, or set mask_params.resize: true"
        )
    lost = set(np.unique(mask).tolist()) - set(np.unique(nearest(mask, size)).tolist()) - {0}
    if lost:
        raise InvalidData(
            f"loses the labels {labels.join_values(sorted(lost))} when resized to {size} pixels; draw them larger"
        )


def _duplicate_stems(paths: Sequence[Path]) -> Iterator[Fault]:
    """Yield faults for files whose names differ only in their type (a.png, a.PNG): a source id would name both."""
    for stem, number in Counter(path.stem for path in paths).items():
        if number > 1:
            names = " and ".join(display_path(path, path.parent) for path in paths if path.stem == stem)
            yield Fault(names, "differ only in file type; rename or remove all but one")


def _stem(path: Path) -> str:
    return display_path(path.with_suffix(""), path.parent)


def _identity(path: Path) -> tuple[str, str]:
    return path.name, files.sha256(path)
