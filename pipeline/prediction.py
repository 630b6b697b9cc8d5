"""Masks and overlays of a folder of images, from a segmenter that a study has kept."""

import colorsys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import files, tracking
from pipeline.contracts import Segmenter
from pipeline.data.decoding import IMAGE_TYPES, Faulty, grey, read_image, resize_image
from pipeline.data.image_set import png
from pipeline.errors import UserError
from pipeline.keeping import open_kept
from pipeline.metrics import boundary, overlap
from pipeline.runtime import Runtime
from pipeline.scoring import resized

MASKS, OVERLAYS = "masks", "overlays"  # folders below the target
TINT = 0.35  # weight of the class's colour inside a mask; its border has the pure colour


def predict_folder(segmenter_folder: Path, images: Path, target: Path) -> int:
    """Writes masks/ (labels 0 ... K-1) and overlays/ of every image of a folder, at its own size; says how many.

    Folders below `images` are kept. Raises UserError; where single images cannot be read, after the others are done.
    """
    segmenter, spec = open_kept(segmenter_folder)
    if spec.ndim == 3 or spec.channels not in (1, 3):
        what = "volumes" if spec.ndim == 3 else f"{spec.channels} contrasts"
        raise UserError(f"{segmenter_folder} was trained on {what}; predict reads folders of pictures")
    segmenter.objective.to(Runtime.alone().device)
    found, faults = image_files(images, target), []
    for path in tracking.progress(found, "predict"):
        name = path.relative_to(images).with_suffix(".png")
        try:
            image, _ = read_image(path)
            seen = grey(image) if spec.channels == 1 else image
        except Faulty as fault:
            faults.append(f"{path.relative_to(images)}: {fault}")
            continue
        labels = predict_labels(segmenter, seen, spec.size)
        with files.writing_to(target):
            files.write_bytes(target / MASKS / name, png(labels))
            files.write_bytes(target / OVERLAYS / name, png(overlay(image, labels, spec.num_classes)))
    if faults:
        raise UserError(f"{len(faults)} of {len(found)} images have no mask, the others do:\n  " + "\n  ".join(faults))
    return len(found)


def image_files(folder: Path, target: Path) -> Sequence[Path]:
    """Images below a folder, sorted, without those below `target`. Raises UserError where two would share a mask."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of images")
    inside = [path for path in sorted(folder.rglob("*")) if target.resolve() not in path.resolve().parents]
    pictures = [path for path in inside if path.suffix.lower() in IMAGE_TYPES and path.is_file()]
    found = [path for path in pictures if not path.name.startswith(".")]
    if not found:
        raise UserError(f"{folder} holds no image; known are {', '.join(IMAGE_TYPES)}")
    name, count = Counter(path.with_suffix("") for path in found).most_common(1)[0]
    if count > 1:
        raise UserError(f"{count} images are called {name} but for their type; their masks would overwrite each other")
    return found


def predict_labels(segmenter: Segmenter, image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Labels [H, W] of an image [C, H, W]: predicted at the size of training, probabilities brought to its own size."""
    small = torch.from_numpy(resize_image(image, size).copy())[None].float() / 255
    chance = segmenter.predict(small).mean(1)[0].float().cpu().numpy()
    return resized(chance, image.shape[1:]).argmax(0).astype(np.uint8)


def overlay(image: NDArray[np.uint8], labels: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
    """The image [3, H, W] as [H, W, 3] with a tint and a border for each foreground class."""
    picture = np.moveaxis(image, 0, -1).astype(np.float32)
    for label, mask in enumerate(overlap.foreground(labels, num_classes), start=1):
        colour = np.array(colorsys.hsv_to_rgb((label - 1) * 0.618 + 1 / 3, 1, 1)) * 255  # green, then far-off hues
        picture[mask] = (1 - TINT) * picture[mask] + TINT * colour
        picture[boundary.border(mask)] = colour
    return picture.round().astype(np.uint8)
