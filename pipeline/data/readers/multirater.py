"""Several raters' masks per image, in the folders of CIMD (Rahman et al. 2023): training/<case>/image_<case>.png with
label0_.png, label1_.png ...; testing/, validation/ likewise. The raters' masks become one, or one rater's is taken.

An optional manifest.csv with columns part, case and patient keeps a patient's cases in one split.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import NonNegativeInt

from pipeline import tracking
from pipeline.data import labels
from pipeline.data.decoding import IMAGE_TYPES, Fault, Faulty, Item, Pixels, Reference, read_image, read_mask, shown
from pipeline.data.readers import _folders
from pipeline.data.sample import Sample
from pipeline.errors import UserError
from pipeline.params import Data
from pipeline.parsing import Section

SOURCE = "multirater"
PARTS = {"training": "train", "validation": "val", "testing": "test"}


class Params(Section):
    """Where the cases are, and which mask is taken for the true one."""

    root: Path
    rater: Literal["majority", "union", "intersection"] | NonNegativeInt = "majority"  # or one rater, from 0
    # majority: foreground where at least half of the raters see it; union: any of them; intersection: all of them


@dataclass(frozen=True)
class Case:
    """One image and its masks, by rater."""

    folder: Path
    split: str
    images: tuple[Path, ...]
    masks: tuple[Path, ...]


def read(data: Data, params: Params) -> Iterator[Item]:
    """One pair per case, and faults of cases. Raises UserError where no case is found or no mask can be chosen."""
    root = _folders.existing(params.root, "data.root")
    cases = [case for part, split in PARTS.items() for case in _cases(root / part, split)]
    raters = max((len(case.masks) for case in cases), default=0)
    _check(params, data, root, raters)
    patients = _patients(root)
    for case in cases:
        if fault := _fault(case, raters):
            yield Fault(shown(case.folder, root), fault)
        else:
            yield from _pair(case, root, data, params, patients)


def _cases(folder: Path, split: str) -> Iterator[Case]:
    if folder.is_dir():
        for case in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            yield Case(case, split, _named(case, "image"), _named(case, "label"))


def _named(case: Path, word: str) -> tuple[Path, ...]:
    found = (path for path in case.glob(f"{word}*") if path.suffix.lower() in IMAGE_TYPES)
    return tuple(sorted(found, key=lambda path: (len(path.name), path.name)))  # label10_ after label9_


def _check(params: Params, data: Data, root: Path, raters: int) -> None:
    if not raters:
        raise UserError(f"data.root: {root} has no training/<case>/label0_.png; see docs/your_own_data.md")
    if isinstance(params.rater, int) and params.rater >= raters:
        raise UserError(f"data.rater is {params.rater}, but there are {raters} raters, counted from 0")
    if isinstance(params.rater, str) and data.num_classes > 2:
        raise UserError(f"data.rater: {params.rater} is for two classes; with {data.num_classes} name one rater")


def _fault(case: Case, raters: int) -> str | None:
    if len(case.images) != 1:
        return f"holds {len(case.images)} files image_*; a case has one"
    if len(case.masks) != raters:
        return f"holds the masks of {len(case.masks)} raters, other cases of {raters}; add or remove some"
    return None


def _patients(root: Path) -> Mapping[tuple[str, str], str]:
    """Patient by part and case; nothing without a manifest that has these columns."""
    path = root / "manifest.csv"
    rows = tracking.read_table(path) if path.is_file() else []
    return {(row["part"], row["case"]): row["patient"] for row in rows if {"part", "case", "patient"} <= row.keys()}


def _pair(
    case: Case, root: Path, data: Data, params: Params, patients: Mapping[tuple[str, str], str]
) -> Iterator[Item]:
    part, own = case.folder.parent.name, case.folder.name
    name, group = _folders.safe_id(f"{part}_{own}"), patients.get((part, own), "")
    image = case.images[0]
    if isinstance(params.rater, int):
        mask = case.masks[params.rater]
        yield Reference(name, image, mask, root, split=case.split, source=SOURCE, group=group)
        return
    try:
        picture, notes = read_image(image)
        mask = merged([_read(path, data.num_classes) for path in case.masks], params.rater)
    except Faulty as fault:
        yield Fault(shown(case.folder, root), str(fault))
        return
    yield Sample(name, picture, mask[None], "", case.split, SOURCE, group, shown(image, root), tuple(notes))


def _read(path: Path, num_classes: int) -> Pixels:
    try:
        return labels.from_mask(read_mask(path)[0], num_classes)[0]
    except Faulty as fault:
        raise Faulty(f"{path.name}: {fault}") from None


def merged(masks: list[NDArray[np.uint8]], rule: str) -> Pixels:
    """One mask {0, 1} of several [H, W]: where at least half, any, or all of them are 1. Raises Faulty."""
    if len({mask.shape for mask in masks}) > 1:
        raise Faulty("holds masks of several sizes; they must agree")
    votes, raters = np.sum(masks, axis=0), len(masks)
    needed = {"majority": raters / 2, "union": 1, "intersection": raters}[rule]
    return (votes >= needed).astype(np.uint8)
