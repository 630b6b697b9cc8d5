"""Whole volumes in the layout of the Medical Segmentation Decathlon (Antonelli et al. 2022) or of nnU-Net, NIfTI-1.

imagesTr/NAME.nii.gz (three axes, or four with channels; nnU-Net: NAME_0000.nii.gz, NAME_0001.nii.gz ...) with
labelsTr/NAME.nii.gz; labelsTs, if it exists, makes the split test. Optional splits/{train,val,test}.txt name volumes,
and a manifest.csv with columns id and group keeps the volumes of a patient in one split. Axes are reoriented to right,
front, top; intensities are scaled to [0, 1]. Two published sets can be read as they are unpacked (`layout`).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import NonNegativeInt

from pipeline.core.errors import UserError
from pipeline.data import grids, intensities, nifti
from pipeline.data.decoding import Fault, InvalidData, Item, LazySample, Pixels, display_path, ensure_inside
from pipeline.data.intensities import Intensities
from pipeline.data.labels import join_values, label_range
from pipeline.data.sample import Sample
from pipeline.methods.readers import _folders, _lists
from pipeline.methods.readers._volume_layouts import VolumeFiles, list_volumes
from pipeline.stages.prepare.params import Data

SOURCE = "volumes"


class Params(Intensities):
    """The folder of the volumes, and how intensities and labels are read."""

    root: Path
    """Folder of the data set."""
    layout: Literal["decathlon", "amos", "male_pelvic_mr"] = "decathlon"
    """`amos` reads AMOS 2022, without its MR, by `dataset.json`; `male_pelvic_mr` reads `data/` of Li et al. 2022 by
    `institution.txt`. Both take the splits of ImgX-DiffSeg's authors. `decathlon`: the common folders.
    """
    labels: dict[NonNegativeInt, NonNegativeInt] | None = None
    """Class of each value in the label files; `null` takes the value itself."""


def read(data: Data, params: Params) -> Iterator[Item]:
    """Volumes that are read when their reorientation comes, and faults of names and lists."""
    root = _folders.existing(params.root, "data.root")
    _check(data, params)
    if params.layout == "decathlon":
        yield from _decathlon(root, data, params)
        return
    for item in list_volumes(params.layout, root):
        yield item if isinstance(item, Fault) else _lazy_sample(item, data, params)


def _decathlon(root: Path, data: Data, params: Params) -> Iterator[Item]:
    """Yield the volumes of imagesTr and imagesTs, with the splits and groups of the lists beside them."""
    parts = [("Tr", None), *([("Ts", "test")] if (root / "labelsTs").is_dir() else [])]
    items = [item for part, split in parts for item in _part(root, part, split)]
    cases = {_lists.key(case.name): case for case in items if isinstance(case, VolumeFiles)}
    labels = {name: case.label.with_name(case.name) for name, case in cases.items()}
    splits, split_faults = _lists.read_splits(root, labels)
    manifest, manifest_faults = _lists.read_manifest(root, labels, "")
    yield from (item for item in items if isinstance(item, Fault))
    yield from (*_missing_listed(root), *split_faults, *manifest_faults)
    for name in sorted(_lists.selected(splits, labels)):
        group, case = manifest.get(name, {}).get("group", ""), cases[name]
        yield _lazy_sample(replace(case, split=splits.get(name) or case.split, group=group), data, params)


def _check(data: Data, params: Params) -> None:
    """Raise UserError if the keys of section data do not fit together."""
    if data.shape is None:
        raise UserError(
            "data.shape is missing; the reader volumes needs the number of voxels along right, front and top"
        )
    if params.labels and (above := [label for label in params.labels.values() if label >= data.num_classes]):
        raise UserError(
            f"data.labels gives the class {above[0]}; data.num_classes allows {label_range(data.num_classes)}"
        )


def _lazy_sample(case: VolumeFiles, data: Data, params: Params) -> LazySample:
    return LazySample(case.origin, case.split, partial(_sample, case, data, params), case.group)


def _part(root: Path, part: str, split: str | None) -> Iterator[VolumeFiles | Fault]:
    images, labels = (_volumes(root / f"{kind}{part}") for kind in ("images", "labels"))
    used = {name: _images_of(name, images) for name in labels}
    for name, label in labels.items():
        if not used[name]:
            yield Fault(display_path(label, root), "has no image; add one of the same name or remove the label")
        elif (missing := _missing_channel(name, used[name])) is not None:
            yield Fault(display_path(label, root), f"lacks the channel {missing}; add it or remove the others")
        else:
            yield VolumeFiles(name, root, used[name], label, split)
    unused = set(images.values()) - {path for paths in used.values() for path in paths}
    for path in sorted(unused):
        yield Fault(display_path(path, root), "has no label; add one of the same name or remove the image")


def _volumes(folder: Path) -> dict[str, Path]:
    paths = sorted(_folders.existing(folder, "data.root").iterdir())
    return {nifti.stem(p): p for p in paths if p.name.endswith(nifti.TYPES) and not p.name.startswith(".")}


def _images_of(name: str, images: Mapping[str, Path]) -> tuple[Path, ...]:
    """Return NAME, or its channels NAME_0000, NAME_0001 ... in order."""
    if name in images:
        return (images[name],)
    channels = [key for key in images if key.removeprefix(f"{name}_").isdecimal() and len(key) == len(name) + 5]
    return tuple(images[key] for key in sorted(channels))


def _missing_channel(name: str, images: Sequence[Path]) -> str | None:
    """Return the first channel that is missing before a later one."""
    expected = [f"{name}_{channel:04d}" for channel in range(len(images))]
    stems = {nifti.stem(path) for path in images}
    return None if stems == {name} else next((stem for stem in expected if stem not in stems), None)


def _missing_listed(root: Path) -> Iterator[Fault]:
    """Yield volumes that dataset.json of the Decathlon lists but that do not exist."""
    path = root / "dataset.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
        listed = [str(entry[kind]) for entry in content.get("training", []) for kind in ("image", "label")]
        missing = [name for name in listed if not (root / name).is_file()]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        yield Fault("dataset.json", f"cannot be read ({error}); mend or remove it")
        return
    for name in missing:
        yield Fault(name, "is listed in dataset.json but does not exist; add it or remove it from the list")


def _sample(case: VolumeFiles, data: Data, params: Params) -> Sample:
    """Return the volume [C, X, Y, Z] in [0, 1] with its label map, reoriented. Raises InvalidData."""
    for path in (*case.images, case.label):
        ensure_inside(path, case.root)
    voxels, affine = intensities.read(case.images, params)
    labels = _labels(case, voxels.shape[1:], affine, data, params)
    reorientation = grids.Reorientation.from_affine(affine)
    image = reorientation.apply(voxels)
    new_affine = reorientation.affine(affine, voxels.shape[1:])
    metadata = ("", case.split, SOURCE, case.group, case.origin)
    mask = np.asarray(reorientation.apply(labels[None]), np.uint8)
    return Sample(_folders.safe_id(case.name), image, mask, *metadata, affine=new_affine)


def _labels(case: VolumeFiles, shape: tuple[int, ...], affine: grids.Affine, data: Data, params: Params) -> Pixels:
    """Return the label map [I, J, K] with the study's classes."""
    try:
        voxels, label_affine = nifti.read(case.label), nifti.read_affine(case.label)
    except InvalidData as fault:
        raise InvalidData(f"has a label {case.label.name} that {fault}") from None
    intensities.check_alignment(case.label, voxels.shape, label_affine, shape, affine)
    values = np.unique(voxels)
    classes = params.labels or {label: label for label in range(data.num_classes)}
    if unknown := [f"{value:g}" for value in values.tolist() if value not in classes]:
        shown = ", ".join(unknown[:8]) + (" ..." if len(unknown) > 8 else "")
        known = join_values(sorted(classes)) if params.labels else label_range(data.num_classes)
        rule = f"data.{'labels names' if params.labels else 'num_classes allows'} {known}"
        raise InvalidData(f"its label {case.label.name} holds the values {shown}; {rule}")
    labels = np.zeros(voxels.shape, np.uint8)
    for value in values:
        labels[voxels == value] = classes[int(value)]
    return labels
