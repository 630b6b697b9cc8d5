"""Whole volumes in the layout of the Medical Segmentation Decathlon (Antonelli et al. 2022) or of nnU-Net, NIfTI-1.

imagesTr/NAME.nii.gz (three axes, or four with channels; nnU-Net: NAME_0000.nii.gz, NAME_0001.nii.gz ...) with
labelsTr/NAME.nii.gz; labelsTs, where it is there, makes the split test. Optional splits/{train,val,test}.txt name
volumes, and a manifest.csv with columns id and group keeps a patient's in one split. Axes are turned to right, front,
top; intensities become 0 to 1.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import NonNegativeInt

from pipeline.core.errors import UserError
from pipeline.data import grids, intensities, nifti
from pipeline.data.decoding import Deferred, Fault, Faulty, Item, Pixels, inside, shown
from pipeline.data.intensities import Intensities
from pipeline.data.labels import allowed, listed
from pipeline.data.sample import Sample
from pipeline.methods.readers import _folders, _lists
from pipeline.stages.prepare.params import Data

SOURCE = "volumes"


class Params(Intensities):
    """Where the volumes are, and how intensities and labels are read."""

    root: Path
    labels: dict[NonNegativeInt, NonNegativeInt] | None = None  # class of each value of the files; None: the value


@dataclass(frozen=True)
class Case:
    """The files of one volume: one per channel or one for all, and its label."""

    name: str
    root: Path
    images: tuple[Path, ...]
    label: Path
    split: str | None
    group: str = ""

    @property
    def origin(self) -> str:
        """The first image file relative to data.root."""
        return shown(self.images[0], self.root)


def read(data: Data, params: Params) -> Iterator[Item]:
    """Volumes that are read when their turn comes, and faults of names and lists."""
    root = _folders.existing(params.root, "data.root")
    _check(data, params)
    parts = [("Tr", None), *([("Ts", "test")] if (root / "labelsTs").is_dir() else [])]
    found = [item for part, split in parts for item in _part(root, part, split)]
    cases = {_lists.key(case.name): case for case in found if isinstance(case, Case)}
    labels = {name: case.label.with_name(case.name) for name, case in cases.items()}
    splits, split_faults = _lists.read_splits(root, labels)
    manifest, manifest_faults = _lists.read_manifest(root, labels, "")
    yield from (item for item in found if isinstance(item, Fault))
    yield from (*_unlisted(root), *split_faults, *manifest_faults)
    for name in sorted(_lists.chosen(splits, labels)):
        group, case = manifest.get(name, {}).get("group", ""), cases[name]
        yield _deferred(replace(case, split=splits.get(name) or case.split, group=group), data, params)


def _check(data: Data, params: Params) -> None:
    """Raises UserError where the keys of section data do not go together."""
    if data.shape is None:
        raise UserError("data.shape is missing; the reader volumes needs the voxels along right, front, top")
    if params.labels and (above := [label for label in params.labels.values() if label >= data.num_classes]):
        raise UserError(f"data.labels gives the class {above[0]}; data.num_classes allows {allowed(data.num_classes)}")


def _deferred(case: Case, data: Data, params: Params) -> Deferred:
    return Deferred(case.origin, case.split, partial(_sample, case, data, params), case.group)


def _part(root: Path, part: str, split: str | None) -> Iterator[Case | Fault]:
    images, labels = (_volumes(root / f"{kind}{part}") for kind in ("images", "labels"))
    used = {name: _images_of(name, images) for name in labels}
    for name, label in labels.items():
        if not used[name]:
            yield Fault(shown(label, root), "has no image; add one of the same name or remove the label")
        elif (missing := _missing(name, used[name])) is not None:
            yield Fault(shown(label, root), f"lacks the channel {missing}; add it or remove the others")
        else:
            yield Case(name, root, used[name], label, split)
    spare = set(images.values()) - {path for paths in used.values() for path in paths}
    for path in sorted(spare):
        yield Fault(shown(path, root), "has no label; add one of the same name or remove the image")


def _volumes(folder: Path) -> dict[str, Path]:
    paths = sorted(_folders.existing(folder, "data.root").iterdir())
    return {nifti.stem(p): p for p in paths if p.name.endswith(nifti.TYPES) and not p.name.startswith(".")}


def _images_of(name: str, images: Mapping[str, Path]) -> tuple[Path, ...]:
    """NAME, or its channels NAME_0000, NAME_0001 ... in order."""
    if name in images:
        return (images[name],)
    numbered = [own for own in images if own.removeprefix(f"{name}_").isdecimal() and len(own) == len(name) + 5]
    return tuple(images[own] for own in sorted(numbered))


def _missing(name: str, images: Sequence[Path]) -> str | None:
    """The first channel that is not there though a later one is."""
    wanted = [f"{name}_{channel:04d}" for channel in range(len(images))]
    found = {nifti.stem(path) for path in images}
    return None if found == {name} else next((own for own in wanted if own not in found), None)


def _unlisted(root: Path) -> Iterator[Fault]:
    """Volumes that dataset.json of the Decathlon lists and that are not there."""
    path = root / "dataset.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
        listed_there = [str(entry[kind]) for entry in told.get("training", []) for kind in ("image", "label")]
        absent = [name for name in listed_there if not (root / name).is_file()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        yield Fault("dataset.json", f"cannot be read ({error}); mend or remove it")
        return
    for name in absent:
        yield Fault(name, "is listed in dataset.json and does not exist; add it or take it from the list")


def _sample(case: Case, data: Data, params: Params) -> Sample:
    """The volume [C, X, Y, Z] in [0, 1] with its label map, axes turned. Raises Faulty."""
    for path in (*case.images, case.label):
        inside(path, case.root)
    voxels, affine = intensities.read(case.images, params)
    labels = _labels(case, voxels.shape[1:], affine, data, params)
    turn = grids.Turn.of(affine)
    image = turn.voxels(voxels)
    place = turn.affine(affine, voxels.shape[1:])
    about = ("", case.split, SOURCE, case.group, case.origin)
    mask = np.asarray(turn.voxels(labels[None]), np.uint8)
    return Sample(_folders.safe_id(case.name), image, mask, *about, affine=place)


def _labels(case: Case, shape: tuple[int, ...], affine: grids.Affine, data: Data, params: Params) -> Pixels:
    """The label map [I, J, K] with the study's classes."""
    try:
        voxels, place = nifti.read(case.label), nifti.read_affine(case.label)
    except Faulty as fault:
        raise Faulty(f"has a label {case.label.name} that {fault}") from None
    intensities.agree(case.label, voxels.shape, place, shape, affine)
    values = np.unique(voxels)
    known = params.labels or {label: label for label in range(data.num_classes)}
    if strange := [f"{value:g}" for value in values.tolist() if value not in known]:
        told = ", ".join(strange[:8]) + (" ..." if len(strange) > 8 else "")
        there = listed(sorted(known)) if params.labels else allowed(data.num_classes)
        rule = f"data.{'labels names' if params.labels else 'num_classes allows'} {there}"
        raise Faulty(f"its label {case.label.name} holds the values {told}; {rule}")
    labels = np.zeros(voxels.shape, np.uint8)
    for value in values:
        labels[voxels == value] = known[int(value)]
    return labels
