"""Which images are exported, and the export itself: written beside its target, moved there when it is whole."""

import logging
import os
import shutil
from collections import Counter
from pathlib import Path

from pipeline.core import paths, plugins
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.methods.exports._pairs import Settings, Splits, pictures_only

log = logging.getLogger(__name__)
OF_VOLUMES = ("nnunet",)  # formats that hold volumes and contrasts


def real(study: str) -> Splits:
    """The real images by split."""
    images = _open(paths.real(study), f"study {study!r}", paths.outputs(study).parent, study)
    return _filled({split: images.split(split) for split in ("train", "val", "test")})


def training_set(study: str, name: str) -> Splits:
    """One training set, with the real images for validation and test."""
    held_out = {split: images for split, images in real(study).items() if split != "train"}
    folder = paths.training_set(study, name)
    return _filled({"train": _open(folder, f"training set {name!r}", folder.parent, name), **held_out})


def synthetic(study: str, generator: str) -> Splits:
    """The images of one generator alone: no real image goes along."""
    folder = paths.synthetic(study, generator)
    return _filled({"train": _open(folder, f"image set of the generator {generator!r}", folder.parent, generator)})


def export(format_name: str, splits: Splits, target: Path, settings: Settings) -> None:
    """Writes `target`, a new folder, whole or not at all. Raises UserError."""
    writer = plugins.load("exports", format_name)
    if os.path.lexists(target):
        raise UserError(f"{target} is there already; remove it or name another folder by --out")
    _check(splits)
    if format_name not in OF_VOLUMES:
        pictures_only(splits, format_name)
    if (raters := splits["train"].spec.raters) > 1:
        log.warning("each real image has the masks of %d raters; the export holds what most of them say", raters)
    for left_behind in target.parent.glob(f".{target.name}.*.tmp"):  # by a killed process
        shutil.rmtree(left_behind, ignore_errors=True)
    staging = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        staging.mkdir(parents=True)
        writer.write(splits, staging, settings)
        staging.rename(target)
    except OSError as error:
        raise UserError(f"the export to {target} failed, nothing of it was kept: {error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _open(folder: Path, title: str, parent: Path, name: str) -> ImageSet:
    there = sorted(path.name for path in parent.glob("[!.]*") if path.is_dir())
    if name not in there:
        raise UserError(f"there is no {title} in {parent}; there are: {', '.join(there) or 'none'}")
    return ImageSet.open(folder)


def _filled(splits: Splits) -> Splits:
    if not len(splits["train"]):
        raise UserError(f"{splits['train'].folder} holds no image to train on; there is nothing to export")
    return {split: images for split, images in splits.items() if len(images)}


def _check(splits: Splits) -> None:
    """Raises UserError where the splits do not belong together."""
    if any(images.spec != splits["train"].spec for images in splits.values()):
        told = ", ".join(f"{images.folder}: {images.spec}" for images in splits.values())
        raise UserError(f"the splits are of different data sets ({told}); run the stages again")
    counts = Counter(row["id"] for images in splits.values() for row in images)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"ids stand for several images: {', '.join(twice[:5])}; run the stages again")
