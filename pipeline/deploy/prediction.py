"""Predict masks and overlays for a folder of pictures or volumes with a segmenter that a study has kept."""

import colorsys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core import files
from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.runtime import Runtime
from pipeline.data import nifti
from pipeline.data.decoding import IMAGE_TYPES, InvalidData, grey, read_image, resize_image
from pipeline.data.image_set import png
from pipeline.data.intensities import Intensities
from pipeline.data.sample import DatasetSpec
from pipeline.deploy import volume_prediction
from pipeline.metrics.segmentation import boundary, overlap
from pipeline.segmentation.predicting import resize_probabilities
from pipeline.segmentation.saved_model import load_model

MASKS, OVERLAYS = "masks", "overlays"  # folders below the target
TINT = 0.35  # weight of the class's colour inside a mask; its border has the pure colour


@dataclass(frozen=True)
class PredictionTask:
    """One picture or volume."""

    source: Path  # its file, relative to the folder
    mask: Path  # below masks/
    predict: Callable[[], tuple[bytes, NDArray[np.uint8]]]  # mask file, overlay [H, W, 3]; raises InvalidData

    @property
    def overlay(self) -> Path:
        """The path below overlays/."""
        return self.mask.with_name(f"{nifti.stem(self.mask).removesuffix('.png')}.png")


def predict_folder(segmenter_folder: Path, images: Path, target: Path) -> int:
    """Write masks/ (labels 0 ... K-1) and overlays/ of every image of a folder, at its own size; return their number.

    Subfolders of `images` are kept. Raises UserError; where single images cannot be read, after the others are done.
    """
    segmenter, spec, reading = load_model(segmenter_folder)
    if spec.ndim == 2 and spec.channels not in (1, 3):
        raise UserError(
            f"{segmenter_folder} was trained on {spec.channels} contrasts; predict reads pictures, grey or colour, and"
            " volumes"
        )
    segmenter.objective.to(Runtime.alone().device)
    if spec.ndim == 3:
        intensities = volume_prediction.intensity_settings(reading, segmenter_folder)
        tasks = _volume_tasks(segmenter, spec, intensities, images, target)
    else:
        tasks = _picture_tasks(segmenter, spec, images, target)
    faults = []
    for task in track(tasks, "predict"):
        try:
            mask, overlaid = task.predict()
        except InvalidData as fault:
            faults.append(f"{task.source}: {fault}")
            continue
        with files.writing_to(target):
            files.write_bytes(target / MASKS / task.mask, mask)
            files.write_bytes(target / OVERLAYS / task.overlay, png(overlaid))
    if faults:
        raise UserError(
            f"{len(faults)} of {len(tasks)} images could not be read and have no mask; the others have one:\n  "
            + "\n  ".join(faults)
        )
    return len(tasks)


def _picture_tasks(segmenter: Segmenter, spec: DatasetSpec, folder: Path, target: Path) -> list[PredictionTask]:
    def predict(path: Path) -> tuple[bytes, NDArray[np.uint8]]:
        image, _ = read_image(path)
        labels = predict_labels(segmenter, grey(image) if spec.channels == 1 else image, spec.size)
        return png(labels), overlay(image, labels, spec.num_classes)

    names = [(path, path.relative_to(folder)) for path in image_files(folder, target)]
    return [PredictionTask(name, name.with_suffix(".png"), partial(predict, path)) for path, name in names]


def _volume_tasks(
    segmenter: Segmenter, spec: DatasetSpec, intensities: Intensities, folder: Path, target: Path
) -> list[PredictionTask]:
    def predict(paths: Sequence[Path]) -> tuple[bytes, NDArray[np.uint8]]:
        volume = volume_prediction.load_volume(paths, folder, intensities, spec)
        probabilities = volume_prediction.predict_probabilities(segmenter, volume)
        labels = volume_prediction.stored_labels(probabilities, volume)
        on_grid = probabilities.argmax(0)
        return nifti.encode(labels, volume.stored), _slices(volume.voxels[0], on_grid, spec.num_classes)

    volumes = volume_prediction.volume_files(folder, target)
    return [
        PredictionTask(paths[0].relative_to(folder), name, partial(predict, paths)) for name, paths in volumes.items()
    ]


def _slices(voxels: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.uint8]:
    """Return the middle slices of the first channel [X, Y, Z] across the three axes, side by side."""
    grey_levels = np.round(255 * voxels).astype(np.uint8)
    planes = zip(*(volume_prediction.middle_slices(volume) for volume in (grey_levels, labels)), strict=True)
    pictures = [overlay(np.stack([image] * 3), label.astype(np.uint8), num_classes) for image, label in planes]
    height = max(map(len, pictures))
    return np.concatenate([np.pad(one, ((0, height - len(one)), (0, 2), (0, 0))) for one in pictures], axis=1)


def image_files(folder: Path, target: Path) -> Sequence[Path]:
    """Return the images below a folder, sorted, without those below `target`.

    Raises UserError where there is none, or where two would share a mask.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder of images")
    inside = [path for path in sorted(folder.rglob("*")) if target.resolve() not in path.resolve().parents]
    pictures = [path for path in inside if path.suffix.lower() in IMAGE_TYPES and path.is_file()]
    visible = [path for path in pictures if not path.name.startswith(".")]
    if not visible:
        raise UserError(f"{folder} holds no image; the known types are {', '.join(IMAGE_TYPES)}")
    name, count = Counter(path.with_suffix("") for path in visible).most_common(1)[0]
    if count > 1:
        raise UserError(
            f"{count} images are called {name} and differ only in their type; their masks would overwrite each other"
        )
    return visible


def predict_labels(segmenter: Segmenter, image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return labels [H, W] of an image [C, H, W], predicted at the training size; probabilities are resized back."""
    small = torch.from_numpy(resize_image(image, size).copy())[None].float() / 255
    probabilities = segmenter.predict(small).mean(1)[0].float().cpu().numpy()
    return resize_probabilities(probabilities, image.shape[1:]).argmax(0).astype(np.uint8)


def overlay(image: NDArray[np.uint8], labels: NDArray[np.uint8], num_classes: int) -> NDArray[np.uint8]:
    """Return the image [3, H, W] as [H, W, 3] with a tint and a border for each foreground class."""
    picture = np.moveaxis(image, 0, -1).astype(np.float32)
    for label, mask in enumerate(overlap.foreground_masks(labels, num_classes), start=1):
        colour = np.array(colorsys.hsv_to_rgb((label - 1) * 0.618 + 1 / 3, 1, 1)) * 255  # green, then distant hues
        picture[mask] = (1 - TINT) * picture[mask] + TINT * colour
        picture[boundary.border(mask)] = colour
    return picture.round().astype(np.uint8)
