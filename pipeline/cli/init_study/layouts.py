"""Detection of the reader for a folder: layouts of published data sets, else any two folders of images and masks."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.cli.init_study.folders import FolderPair, below, find_pair, pair_of, stems
from pipeline.core.errors import UserError
from pipeline.data import dicom_elements, nifti
from pipeline.data.dicom_segmentation import is_segmentation
from pipeline.data.invalid import InvalidData
from pipeline.methods.readers import ph2

POLYP, LESION, UNKNOWN = "A photo of a polyp.", "A dermoscopic image of a skin lesion.", "A medical image."
KVASIR_NAME = re.compile(r"c[jk][0-9a-z]{23}")  # of the images as published
ISIC_NAME = re.compile(r"isic_\d+")
SEGMENTATION = "_segmentation"
KNOWN = "paired folders, Kvasir-SEG, ISIC, PraNet's polyp benchmark, PH2, CIMD, MSD or nnU-Net, DICOM with DICOM-SEG"
LOOKED_AT = 300  # files of which one should be a segmentation, if it is a folder of DICOM


@dataclass(frozen=True)
class DatasetLayout:
    """A recognised layout: the reader, its keys of section data beside root, and remarks on it."""

    title: str
    reader: str
    root: Path
    keys: dict[str, Any] = field(default_factory=dict)
    prompt: str = UNKNOWN
    num_classes: int | None = None  # where the data set tells it
    remarks: tuple[str, ...] = ()


def detect(root: Path) -> DatasetLayout:
    """Return the layout of a folder. Raises UserError where none is recognised."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder")
    for find in (_pranet, _msd, _cimd, _ph2, _isic, _dicom, _pair):
        layout = find(root)
        if layout is not None:
            return layout
    inside = list(below(root, 1))
    if len(inside) == 1:  # as archives are unpacked
        return detect(inside[0])
    raise UserError(f"no known layout in {root} ({KNOWN}); name the two folders with --images and --masks")


def detect_pair(images: Path, masks: Path) -> DatasetLayout:
    """Return the layout of two folders: the data set's where they are part of a published one. Raises UserError."""
    parents: tuple[Callable[[], DatasetLayout | None], ...] = (
        lambda: _msd(images.parent) if images.name == "imagesTr" else None,
        lambda: _pranet(images.parent.parent) if images.parent.name == "TrainDataset" else None,
    )
    for find in parents:
        layout = find()
        if layout is not None:
            return layout
    return _of_pair(pair_of(images, masks))


def _pranet(root: Path) -> DatasetLayout | None:
    if not ((root / "TrainDataset").is_dir() and (root / "TestDataset").is_dir()):
        return None
    remark = "every folder of TestDataset is a test set of its own in the report; a prompt per set is possible"
    return DatasetLayout("PraNet's polyp benchmark", "pranet", root, prompt=POLYP, remarks=(remark,))


def _msd(root: Path) -> DatasetLayout | None:
    if not all((root / name).is_dir() for name in ("imagesTr", "labelsTr")):
        return None
    if not any(path.name.endswith(nifti.TYPES) for path in (root / "imagesTr").iterdir()):
        return None
    keys = {"slices": 8, "axis": 2}
    remarks = (
        "slices: of a volume, at most; neighbours look alike, so more of them add little",
        "reader: volumes, with shape instead of size, takes whole volumes, for segmenters in 3-D (no generators)",
        "axis: across which slices are cut; channel: N and window: [low, high] are there too (docs/your_own_data.md)",
    )
    about = _description(root / "dataset.json")
    labels, modality = about.get("labels", {}), about.get("modality", about.get("channel_names", {}))
    first = str(next(iter(modality.values()), "Medical")) if isinstance(modality, dict) else "Medical"
    prompt = f"{first} slice, {about['name'].lower()}." if isinstance(about.get("name"), str) else UNKNOWN
    classes = len(labels) if isinstance(labels, dict) and len(labels) > 1 else None
    return DatasetLayout("MSD volumes, as slices", "msd_slices", root, keys, prompt, classes, remarks)


def _description(path: Path) -> dict[str, Any]:
    """Return the content of dataset.json; empty where it cannot be read."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _cimd(root: Path) -> DatasetLayout | None:
    training = root / "training"
    cases = list(below(training, 1))[:3] if training.is_dir() else []
    if not cases or not all(any(case.glob("label*")) and any(case.glob("image*")) for case in cases):
        return None
    remarks = (
        "rater: majority (at least half of the raters), union, intersection, or the number of one, from 0",
        "one mask per image is used then; rater: all keeps every rater's, for segmenters that model disagreement",
    )
    return DatasetLayout("CIMD's folders, several raters", "multirater", root, {"rater": "majority"}, remarks=remarks)


def _ph2(root: Path) -> DatasetLayout | None:
    if any((root / name).is_dir() for name in ph2.OFFICIAL):
        return DatasetLayout("PH2 as published", "ph2", root, prompt=LESION)
    return None


def _isic(root: Path) -> DatasetLayout | None:
    """Match folders of ISIC_*.jpg and of ISIC_*_segmentation.png; the split is in the folders' names."""
    folders = [(folder, stems(folder)) for folder in below(root)]
    masks = {folder: names for folder, names in folders if names and all(n.endswith(SEGMENTATION) for n in names)}
    images = {f: n for f, n in folders if n and f not in masks and any(ISIC_NAME.fullmatch(name) for name in n)}
    keys: dict[str, Any] = {}
    for image_folder, names in images.items():
        for folder, others in masks.items():
            split = _split(image_folder.name)
            if f"{split}_images" not in keys and {name.removesuffix(SEGMENTATION) for name in others} & set(names):
                keys[f"{split}_images"] = image_folder.relative_to(root).as_posix()
                keys[f"{split}_masks"] = folder.relative_to(root).as_posix()
    return DatasetLayout("ISIC", "isic", root, keys, LESION) if "training_images" in keys else None


def _split(folder: str) -> str:
    return next((split for split in ("val", "test") if split in folder.lower()), "training")


def _dicom(root: Path) -> DatasetLayout | None:
    """Match folders in which a DICOM-SEG lies, however deep and whatever the names."""
    found = (path for path in root.rglob("*") if path.is_file() and dicom_elements.is_dicom(path))
    if not any(map(_is_segmentation, islice(found, LOOKED_AT))):
        return None
    remarks = (
        "slices: of a series, at most; reader: dicom with shape instead of size takes whole volumes",
        "window: [low, high] goes before the window of the files; labels: {1: 1} names the label of each segment",
    )
    return DatasetLayout("DICOM series with DICOM-SEG", "dicom", root, {"slices": 8}, remarks=remarks)


def _is_segmentation(path: Path) -> bool:
    try:
        return is_segmentation(dicom_elements.read_header(path))
    except InvalidData:
        return False


def _pair(root: Path) -> DatasetLayout | None:
    pair = find_pair(root)
    return None if pair is None else _of_pair(pair)


def _of_pair(pair: FolderPair) -> DatasetLayout:
    """Return Kvasir-SEG, PH2 or ISIC by the names of their images, else paired folders."""
    names, root = stems(pair.images), pair.root
    images, masks = (pair.below_root(folder).as_posix() for folder in (pair.images, pair.masks))
    usual = (images, masks, pair.suffix) == ("images", "masks", "")
    if usual and ("kvasir" in root.name.lower() or all(KVASIR_NAME.fullmatch(name) for name in names)):
        return DatasetLayout("Kvasir-SEG", "kvasir", root, prompt=POLYP)
    if usual and all(re.fullmatch(r"imd\d+", name) for name in names):
        return DatasetLayout("PH2 in two folders", "ph2", root, prompt=LESION)
    if pair.suffix == SEGMENTATION and pair.images != pair.masks and any(ISIC_NAME.match(name) for name in names):
        return DatasetLayout("ISIC", "isic", root, {"training_images": images, "training_masks": masks}, LESION)
    keys = {} if usual else {"images": images, "masks": masks}
    if pair.suffix:
        keys["mask_suffix"] = pair.suffix
    return DatasetLayout("paired folders", "paired_folders", root, keys)
