"""Several raters' masks per image, in the folders of CIMD (Rahman et al. 2023): training/<case>/image_<case>.png with
label0_.png, label1_.png ...; testing/, validation/ likewise. All raters' masks are kept, or merged, or one rater's
is taken. A case of several contrasts (data.channels) has as many grey files image_*, ordered by their names.

An optional manifest.csv with columns part, case and patient keeps a patient's cases in one split.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt

from pipeline.core import tables
from pipeline.core.errors import UserError
from pipeline.core.section import Section
from pipeline.data import labels
from pipeline.data.decoding import (
    IMAGE_TYPES,
    Fault,
    FilePair,
    InvalidData,
    Item,
    LazySample,
    Pixels,
    display_path,
    ensure_inside,
    grey,
    read_image,
    read_mask,
)
from pipeline.data.image_files import majority_vote
from pipeline.data.sample import Sample
from pipeline.methods.readers import _folders
from pipeline.stages.prepare.params import Data

SOURCE = "multirater"
Patients = Mapping[tuple[str, str], str]  # by part and case
NUMBER = re.compile(r"label(\d+)")
PARTS = {"training": "train", "validation": "val", "testing": "test"}


class Params(Section):
    """The folder of the cases, and which mask is taken as ground truth."""

    root: Path
    """Folder of the data set."""
    rater: Literal["all", "majority", "union", "intersection"] | NonNegativeInt = "majority"
    """Whose mask is the ground truth: `majority` (at least half of the raters), `union`, `intersection`, or the number
    of one rater, from 0. `all` keeps every rater's mask: segmenters train on one at random, and the scores know them
    all.
    """
    crop: PositiveInt | None = None
    """Side in pixels of the central square of image and masks that is used; `null` for the whole image."""


@dataclass(frozen=True)
class Case:
    """One image and its masks, by rater."""

    folder: Path
    split: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]

    @property
    def id(self) -> str:
        """Id that is unique in the data set."""
        return _folders.safe_id(f"{self.folder.parent.name}_{self.folder.name}")

    def patient(self, patients: Patients) -> str:
        """Return the patient of the case; empty if unknown."""
        return patients.get((self.folder.parent.name, self.folder.name), "")

    def pair(self, root: Path, rater: int, patients: Patients) -> FilePair:
        """Return the image with the mask of one rater."""
        metadata = {"split": self.split, "source": SOURCE, "group": self.patient(patients)}
        return FilePair(self.id, self.images[0], self.masks[rater], root, **metadata)


def read(data: Data, params: Params) -> Iterator[Item]:
    """Yield one pair per case, and faults of cases. Raises UserError if there is no case or no usable mask."""
    root = _folders.existing(params.root, "data.root")
    cases = [case for part, split in PARTS.items() for case in _cases(root / part, split)]
    raters = max((len(case.masks) for case in cases), default=0)
    _check(params, data, root, raters)
    patients = _patients(root)
    for case in cases:
        if fault := _fault(case, data.channels or 1, raters):
            yield Fault(display_path(case.folder, root), fault)
        elif isinstance(params.rater, int) and len(case.images) == 1 and params.crop is None:
            yield case.pair(root, params.rater, patients)
        else:
            yield _lazy_sample(case, root, data, params, patients)


def _cases(folder: Path, split: str) -> Iterator[Case]:
    if folder.is_dir():
        for case in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            yield Case(case, split, _named(case, "image"), _named(case, "label"))


def _named(case: Path, word: str) -> tuple[Path, ...]:
    images = (path for path in case.glob(f"{word}*") if path.suffix.lower() in IMAGE_TYPES)
    return tuple(sorted(images, key=lambda path: (len(path.name), path.name)))  # label10_ after label9_


def _check(params: Params, data: Data, root: Path, raters: int) -> None:
    if not raters:
        raise UserError(f"data.root: {root} has no training/<case>/label0_.png; see docs/your_own_data.md")
    if isinstance(params.rater, int) and params.rater >= raters:
        raise UserError(f"data.rater is {params.rater}, but there are {raters} raters, counted from 0")
    if params.rater in ("majority", "union", "intersection") and data.num_classes > 2:
        raise UserError(f"data.rater: {params.rater} needs two classes; with {data.num_classes}, name one rater")


def _fault(case: Case, channels: int, raters: int) -> str | None:
    expected = 1 if channels == 3 and len(case.images) == 1 else channels
    if len(case.images) != expected:
        wanted = "one" if expected == 1 else f"{expected}, one for each contrast (data.channels)"
        return f"holds {len(case.images)} files image_*; a case has {wanted}"
    if len(case.masks) != raters:
        present = {int(number[1]) for mask in case.masks if (number := NUMBER.match(mask.name))}
        missing = ", ".join(f"label{rater}_" for rater in range(raters) if rater not in present) or "none by its number"
        message = f"holds the masks of {len(case.masks)} raters, other cases of {raters} (missing: {missing})"
        return f"{message}; add or remove some"
    return None


def _patients(root: Path) -> Patients:
    """Return the patient by part and case; empty without a manifest that has these columns."""
    path = root / "manifest.csv"
    rows = tables.read_table(path) if path.is_file() else []
    return {(row["part"], row["case"]): row["patient"] for row in rows if {"part", "case", "patient"} <= row.keys()}


def _lazy_sample(case: Case, root: Path, data: Data, params: Params, patients: Patients) -> LazySample:
    load = partial(_sample, case, root, data, params, patients)
    return LazySample(display_path(case.folder, root), case.split, load, case.patient(patients))


def _sample(case: Case, root: Path, data: Data, params: Params, patients: Patients) -> Sample:
    """Return the decoded case. Raises InvalidData."""
    picture, notes = _image(case, root)
    masks = [_mask(path, root, data.num_classes) for path in case.masks]
    if len({mask.shape for mask in masks}) > 1:
        raise InvalidData("holds masks of several sizes; they must be equal")
    if params.crop is not None:
        picture, *masks = centre_crop([picture, *masks], params.crop)
    if isinstance(params.rater, int):
        masks = [masks[params.rater]]
    elif params.rater != "all":
        masks = [merge_masks(masks, params.rater)]
    metadata = (case.split, SOURCE, case.patient(patients), display_path(case.images[0], root), tuple(notes))
    return Sample(case.id, picture, np.stack(masks), "", *metadata)


def _image(case: Case, root: Path) -> tuple[Pixels, list[str]]:
    """Return [3, H, W] of one file, [C, H, W] of C grey ones."""
    read = [read_image(ensure_inside(path, root)) for path in case.images]
    if len(read) == 1:
        return read[0]
    planes = [
        _named_faults(path, lambda colours=pixels: grey(colours))
        for path, (pixels, _) in zip(case.images, read, strict=True)
    ]
    if len({plane.shape for plane in planes}) > 1:
        raise InvalidData("holds contrasts of several sizes; they must be equal")
    return np.concatenate(planes), [note for _, notes in read for note in notes]


def _mask(path: Path, root: Path, num_classes: int) -> Pixels:
    return _named_faults(path, lambda: labels.label_map(read_mask(ensure_inside(path, root))[0], num_classes)[0])


def _named_faults(path: Path, read: Callable[[], Pixels]) -> Pixels:
    """Return what `read` returns; a fault names the file."""
    try:
        return read()
    except InvalidData as fault:
        raise InvalidData(f"{path.name}: {fault}") from None


def merge_masks(masks: list[NDArray[np.uint8]], rule: str) -> Pixels:
    """Return one mask {0, 1} of several [H, W]: where at least half, any, or all of them are 1."""
    votes = np.stack(masks)
    if rule == "majority":
        return majority_vote(votes)
    return votes.max(0) if rule == "union" else votes.min(0)


def centre_crop(planes: list[Pixels], side: int) -> list[Pixels]:
    """Return the central squares of `side` pixels of an image and its masks [..., H, W]. Raises InvalidData."""
    sizes = sorted({plane.shape[-2:] for plane in planes})
    if len(sizes) > 1 or min(sizes[0]) < side:
        shapes = " and ".join(f"{width} x {height}" for height, width in sizes)
        raise InvalidData(
            f"has an image and masks of {shapes} pixels; they must be equal and at least as large as data.crop, {side}"
        )
    ((height, width),) = sizes
    top, left = (height - side) // 2, (width - side) // 2
    return [plane[..., top : top + side, left : left + side] for plane in planes]
