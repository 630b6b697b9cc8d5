"""The splits that can be exported, and the export itself: written beside its target, then moved there complete."""

import logging
import os
import shutil
from collections import Counter
from pathlib import Path

from pipeline.core import files, paths, plugins
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.methods.exports._format import ExportOptions, Splits

log = logging.getLogger(__name__)
VOLUME_FORMATS = ("nnunet",)  # formats that can hold volumes, and images of any number of channels


def real_splits(study: str) -> Splits:
    """Return the real images by split. Raises UserError where the study has none."""
    images = _open(paths.real(study), f"study {study!r}", paths.outputs(study).parent, study)
    return _without_empty({split: images.split(split) for split in ("train", "val", "test")})


def training_set_splits(study: str, name: str) -> Splits:
    """Return one training set, with the real images for validation and test. Raises UserError where it is missing."""
    held_out = {split: images for split, images in real_splits(study).items() if split != "train"}
    folder = paths.training_set(study, name)
    return _without_empty({"train": _open(folder, f"training set {name!r}", folder.parent, name), **held_out})


def synthetic_splits(study: str, generator: str) -> Splits:
    """Return the images of one generator without any real image. Raises UserError where they are missing."""
    folder = paths.synthetic(study, generator)
    images = _open(folder, f"image set of the generator {generator!r}", folder.parent, generator)
    return _without_empty({"train": images})


def export(format_name: str, splits: Splits, target: Path, options: ExportOptions) -> None:
    """Write `target`, a new folder, completely or not at all. Raises UserError."""
    writer = plugins.load("exports", format_name)
    if os.path.lexists(target):
        raise UserError(f"{target} already exists; remove it, or name another folder with --out")
    _check_consistent(splits)
    if format_name not in VOLUME_FORMATS:
        _check_pictures(splits, format_name)
    if (raters := splits["train"].spec.raters) > 1:
        log.warning("each real image has the masks of %d raters; the export holds what most of them say", raters)
    for stale in target.parent.glob(f".{target.name}.*.tmp"):  # of a killed process
        shutil.rmtree(stale, ignore_errors=True)
    staging = target.with_name(files.temporary_name(target.name))
    try:
        staging.mkdir(parents=True)
        writer.write(splits, staging, options)
        staging.rename(target)
    except OSError as error:
        raise UserError(f"the export to {target} failed, and nothing of it was kept: {error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _open(folder: Path, title: str, parent: Path, name: str) -> ImageSet:
    available = sorted(path.name for path in parent.glob("[!.]*") if path.is_dir())
    if name not in available:
        raise UserError(f"there is no {title} in {parent}; the available ones are: {', '.join(available) or 'none'}")
    return ImageSet.open(folder)


def _without_empty(splits: Splits) -> Splits:
    """Return the splits that hold images. Raises UserError where there is none to train on."""
    if not len(splits["train"]):
        raise UserError(f"{splits['train'].folder} holds no image to train on, so there is nothing to export")
    return {split: images for split, images in splits.items() if len(images)}


def _check_consistent(splits: Splits) -> None:
    """Raise UserError where the splits do not belong to one data set or share ids."""
    if any(images.spec != splits["train"].spec for images in splits.values()):
        specs = ", ".join(f"{images.folder}: {images.spec}" for images in splits.values())
        raise UserError(f"the splits are of different data sets ({specs}); run the stages again")
    counts = Counter(row["id"] for images in splits.values() for row in images)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise UserError(f"ids stand for several images: {', '.join(repeated[:5])}; run the stages again")


def _check_pictures(splits: Splits, format_name: str) -> None:
    """Raise UserError where a format of pictures would have to hold volumes or several contrasts."""
    spec = splits["train"].spec
    if spec.ndim == 3 or spec.channels not in (1, 3):
        content = "volumes" if spec.ndim == 3 else f"images of {spec.channels} channels"
        raise UserError(f"the format {format_name} holds pictures, but these are {content}; export them as nnunet")
