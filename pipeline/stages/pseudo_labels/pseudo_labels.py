"""Predict masks for the images without masks, by segmenters that were trained on the real training pairs.

In later rounds, the segmenters also learn from the masks of the round before (noisy students, Xie et al. 2020).
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files, paths
from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import FOLDERS, HASHES, ImageSet, Row, png
from pipeline.data.linking import link_files
from pipeline.data.pseudo_labels import COLUMN, pseudo_labelled
from pipeline.metrics.segmentation import overlap
from pipeline.segmentation import strong_augmentation
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.params import Segment, SegmenterEntry, entry_settings
from pipeline.segmentation.predicting import Probabilities, predict_set
from pipeline.segmentation.selecting import Looks
from pipeline.segmentation.train import TrainingOptions, train_segmenter, training_identity
from pipeline.stages.pseudo_labels.output import RECORD
from pipeline.stages.pseudo_labels.params import PseudoLabels
from pipeline.study import Params

VERSION = 1  # raised when results change


def predict_masks(params: Params, runtime: Runtime) -> None:
    """Publish the real training pairs and the images without masks with the masks that were predicted for them.

    The probabilities of the trained segmenters are averaged, and each pixel gets the most probable class. Images in
    which no foreground was found are left out. In further rounds, segmenters learn from the labels of the round before
    too. A segmenter that is finished is not trained again. Raises UserError where no image is left.
    """
    if not runtime.is_main:
        return
    assert params.data.unlabelled and params.data.unlabelled.pseudo_labels
    settings, real = params.data.unlabelled.pseudo_labels, ImageSet.open(paths.real(params.study))
    entry = params.segmenters[settings.segmenter]
    segment = training_settings(settings, entry_settings(params.segment, settings.segmenter, entry))
    threads = segment.threads_or(params.threads)
    alone = Runtime.alone(threads, runtime.device)
    teaching = Teaching(settings, entry, segment, params.seed, threads, alone, real)
    pairs, unlabelled = real.split("train"), ImageSet.open(paths.unlabelled(params.study))
    for number in range(settings.rounds):
        pairs = teaching.round(number, pairs, unlabelled)
    files.publish(pairs.folder, paths.pseudo_labels(params.study))


@dataclass(frozen=True)
class Teaching:
    """What the trainings of the segmenters that predict masks share."""

    settings: PseudoLabels
    entry: SegmenterEntry
    segment: Segment  # with the overrides of the entry and of data.unlabelled.pseudo_labels
    seed: int
    threads: int  # per process
    runtime: Runtime
    real: ImageSet

    def round(self, number: int, pairs: ImageSet, unlabelled: ImageSet) -> ImageSet:
        """Train segmenters on `pairs`, and return the real training pairs and the images with the predicted masks."""
        work, count = self._work(pairs, unlabelled), self.settings.networks
        teachers = [self._trained(number, k, pairs, work / f"segmenter_{k}") for k in range(count)]
        folder, train = work / "images", self.real.split("train")
        shutil.rmtree(folder, ignore_errors=True)  # its files may be links to published ones: never write into them
        rows = [*link_files(train, folder), *_with_masks(unlabelled, self._labels(teachers, unlabelled), folder)]
        found = len(rows) - len(train)
        if not found:
            raise UserError(
                f"data.unlabelled.pseudo_labels: {self.settings.segmenter} found no foreground in any of"
                f" {len(unlabelled)} images; train it longer (max_steps), or leave pseudo_labels out"
            )
        record = {"images": found, "left_out": len(unlabelled) - found, "training_pairs": len(train)}
        files.write_json(folder / RECORD, record | self.settings.model_dump(mode="json") | self._quality(teachers))
        return ImageSet.finish(folder, train.spec, rows)

    def _work(self, pairs: ImageSet, unlabelled: ImageSet) -> Path:
        about = dict(build_segmenter(self.settings.segmenter, self.entry, self.real.spec).about)
        inputs = self.real.digest, pairs.digest, unlabelled.digest, about, self.seed, self._share(pairs)
        identity = training_identity(self.segment, self.threads)
        return paths.work("pseudo_labels", files.fingerprint(VERSION, identity, *inputs))

    def _share(self, pairs: ImageSet) -> float | None:
        """Return the share of images with pseudo-labels in every batch; None in the first round, without any."""
        return self.settings.pseudo_share if len(pseudo_labelled(pairs)) else None

    def _trained(self, number: int, network: int, pairs: ImageSet, place: Path) -> Segmenter:
        """Train a segmenter of a round, or load it where an earlier run has finished it; its folder is sealed last."""
        name = self.settings.segmenter
        if files.is_intact(place):
            segmenter = build_segmenter(name, self.entry, self.real.spec)
            segmenter.load(place)
            return segmenter
        if self.segment.augment == "strong":
            strong_augmentation.check(self.real.spec)
        title = f"round {number + 1} of pseudo-labels, segmenter {network + 1}"
        looks = Looks(self.real.split("val"))
        options = TrainingOptions(title, pseudo_share=self._share(pairs), looks=looks)
        stream = f"pseudo_labels/{self.seed}/{number}/{network}"
        segmenter, _ = train_segmenter(name, self.entry, self.segment, pairs, stream, self.runtime, options)
        segmenter.save(place)
        files.seal(place)
        return segmenter

    def _labels(self, teachers: Sequence[Segmenter], images: ImageSet) -> Iterator[NDArray[np.uint8]]:
        """Yield the label map [*spatial] of each image in the order of the rows."""
        each = [predict_set(teacher, images, self.segment) for teacher in teachers]
        for found in zip(*each, strict=True):
            yield mean_probabilities(found).argmax(0).astype(np.uint8)

    def _quality(self, teachers: Sequence[Segmenter]) -> dict[str, float | None]:
        """Return the mean Dice of the averaged predictions on the validation images, by the rule of faithfulness."""
        images = self.real.split("val")
        classes, masks, found = images.spec.num_classes, map(images.mask, images), self._labels(teachers, images)
        dice = [
            overlap.mean_over_judges(overlap.dice, [m], mask, classes) for m, mask in zip(found, masks, strict=True)
        ]
        counted = np.array(dice, float)
        return {"val_dice": None if np.isnan(counted).all() else float(np.nanmean(counted))}


def training_settings(settings: PseudoLabels, segment: Segment) -> Segment:
    """Return the settings of the trainings: `segment` with what data.unlabelled.pseudo_labels says otherwise."""
    if settings.max_steps is not None:
        segment = segment.model_copy(update={"max_steps": settings.max_steps, "epochs": None})
    if settings.augment is not None:
        segment = segment.model_copy(update={"augment": settings.augment})
    return segment


def mean_probabilities(found: Sequence[Probabilities]) -> Probabilities:
    """Return the mean [K, *spatial] over the segmenters of probabilities [S, K, *spatial], and over their samples."""
    return np.mean([probabilities.mean(0) for probabilities in found], axis=0)


def _with_masks(images: ImageSet, masks: Iterator[NDArray[np.uint8]], folder: Path) -> Iterator[Row]:
    """Yield the rows of images without masks with the masks that were predicted; empty ones are left out."""
    for row, mask in zip(track(images, "pseudo_labels: predicting masks", len(images)), masks, strict=True):
        if mask.any():
            name, content = f"{FOLDERS['mask']}/{row['id']}.png", png(mask)
            files.write_bytes(folder / name, content)
            (folder / row["file_name"]).parent.mkdir(parents=True, exist_ok=True)
            files.link_or_copy(images.folder / row["file_name"], folder / row["file_name"])
            yield {**row, "mask": name, HASHES["mask"]: files.sha256_of(content), "split": "train", COLUMN: True}
