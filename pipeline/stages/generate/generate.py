"""Generation of an image set: planned before it is dealt, one random stream per image, resumable, manifest last."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import pipeline
from pipeline.core import files, paths, plugins, seeding
from pipeline.core.contracts import Generator, ImportedImages, Sampling, SeesImages, TrainingFreeGenerator
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.runtime import Runtime
from pipeline.data import mask_hashes
from pipeline.data.image_set import HASHES, ImageSet, Row, finishing, png, write_pair
from pipeline.data.limited import training_pairs
from pipeline.data.moved_images import moved_image
from pipeline.data.sample import Sample
from pipeline.data.verification import is_intact
from pipeline.stages.base.manifest import base_source, unlabelled_images
from pipeline.stages.finetune.generator import build, options, stream
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.generate import card, croissant, guidance, provenance, timing
from pipeline.stages.generate.plan import Plan, PlannedImage
from pipeline.stages.generate.real_pixels import Backgrounds, real_images
from pipeline.stages.prepare.control import check_control
from pipeline.study import Params

VERSION = 2  # raised when results change
SHELF = 1000  # row files in one folder


def generate(params: Params, name: str) -> None:
    """Publish `copies` images per mask; batches that are finished and intact are skipped after a crash."""
    runtime = Runtime.start(params.threads)
    real, trained = ImageSet.open(paths.real(params.study)), paths.generator(params.study, name)
    job = Job(params, name, trained, params.generators[name].copies, real)
    work = paths.work("generate", job.fingerprint)
    fill(job, runtime, work)
    if runtime.is_main:
        target = paths.synthetic(params.study, name)
        with files.writing_to(target):
            files.publish(work / "set", target)
            files.write_json(paths.generate_seconds(params.study, name), timing.total(work))
    runtime.barrier()


@dataclass(frozen=True)
class Job:
    """One image set: `copies` images per mask of a generator entry, by the weights in the folder `trained`."""

    params: Params
    name: str  # of the entry
    trained: Path
    copies: int
    real: ImageSet

    @property
    def entry(self) -> GeneratorEntry:
        """The entry of the section `generators`."""
        return self.params.generators[self.name]

    @cached_property
    def weights(self) -> str:
        """Hash of the trained generator's files."""
        return files.tree_sha256(self.trained)

    @cached_property
    def train(self) -> ImageSet:
        """The training pairs within the limit of the entry: from which masks and pixels come."""
        return training_pairs(self.real, self.entry.pair_limit, self.params.seed, f"generators.{self.name}")

    @property
    def stream(self) -> int | str:
        """Name of the random streams of the entry."""
        return stream(self.params.seed, self.entry)

    @cached_property
    def plan(self) -> Plan:
        """The masks, in batches. Raises UserError where there is none, or none that can be drawn as the entry asks."""
        entry, where = self.entry, f"generators.{self.name}"
        check_control(self.name, entry)
        mask_params = plugins.read_params("masks", entry.masks, entry.mask_params, f"{where}.mask_params")
        source, seed = plugins.load("masks", entry.masks), f"{self.params.seed}/masks"
        masks, batch_size = source.build(mask_params, self.train, entry.count, seed), self.params.generate.batch_size
        if not len(masks):
            raise UserError(f"{where}.masks: {entry.masks} gives no mask; is the training split empty?")
        if not entry.needs_real_images:
            return Plan(masks, self.copies, batch_size)
        backgrounds = Backgrounds(self.name, entry, self.train, self.stream)
        usable = backgrounds.masks(masks)
        if not len(usable):
            raise UserError(f"{where}.keep_background: every mask is empty, so there is no lesion to draw")
        return Plan(usable, self.copies, batch_size, backgrounds.choose)

    @property
    def fingerprint(self) -> str:
        """Everything that the files depend on."""
        study = (self.params.seed, self.params.threads)
        masks = getattr(self.plan.masks, "digest", "")  # of what they are made of beside the training set
        weaker = guidance.weaker_weights(self.params.study, self.name, self.entry)
        inputs = (self.weights, self.train.digest, masks, *filter(None, [weaker]))
        return files.fingerprint(
            VERSION, pipeline.__version__, self.name, self.entry, self.copies, self.params.generate, study, inputs
        )

    @cached_property
    def image_weight(self) -> float | None:
        """The weight of the image's residuals; None where the mask alone controls the images."""
        if self.entry.control == "mask":
            return None
        if self.entry.image_weight is not None:
            return self.entry.image_weight
        trained = options(self.name, self.entry)
        assert isinstance(trained, SeesImages)  # check_control
        return trained.last_image_weight

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The columns that all rows of the set share."""
        about = self.name, self.entry, self.params.generate, self.weights
        return provenance.set_columns(*about, self.unlabelled, self.image_weight, len(self.train))

    @property
    def unlabelled(self) -> int:
        """How many images the base has seen without their masks; 0 where the generator uses no base."""
        beyond = len(self.real.split("train")) - len(self.train)
        return unlabelled_images(self.params.study, beyond) if self.entry.uses_base(self.name) else 0

    def about(self, image: PlannedImage) -> dict[str, Any]:
        """Return the columns of one image."""
        seed = seeding.number(self.stream, "sample", image.mask.id, image.copy)
        lent = image.background.columns(self.entry.keep_background is not None) if image.background else {}
        shown = {} if self.image_weight is None else {"control_image_id": image.mask.source_id}
        return provenance.image_columns(self.columns, image.mask, image.copy, seed) | lent | shown

    def summary(self) -> card.SetSummary:
        """Return what the dataset card states."""
        source = base_source(self.params.study)
        counts = (self.plan.images, len(self.plan.masks), self.copies)
        choices = {"seed": self.params.seed, "batch_size": self.plan.batch_size, "mask_params": self.entry.mask_params}
        base = None if source == "scratch" or not self.entry.uses_base(self.name) else source
        return card.SetSummary(self.real.spec, *counts, base, self.columns, choices, self.unlabelled)


def fill(job: Job, runtime: Runtime, work: Path) -> None:
    """Fill the image set work/set on all processes, each its own batches; batches that are intact are kept."""
    filling, mine = _Filling(job, runtime, work), range(runtime.rank, len(job.plan), runtime.world)
    for number in track(mine, f"generate {job.name}", visible=runtime.is_main):
        filling.batch(number)
    runtime.barrier()
    if runtime.is_main:
        with files.writing_to(work):
            _finish(job, work)
    runtime.barrier()


@dataclass(frozen=True)
class _Filling:
    """One process's share of a set; the generator is loaded for the first batch that is not there."""

    job: Job
    runtime: Runtime
    work: Path

    @cached_property
    def generator(self) -> Generator | TrainingFreeGenerator | ImportedImages:
        job, study = self.job, self.job.params.study
        model = build(study, job.params.seed, job.name, job.entry, job.real.spec, self.runtime)
        for folder in (paths.generator(study, job.name), job.trained):
            files.check(folder)
        model.load(job.trained)
        if isinstance(model, TrainingFreeGenerator):
            model.set_training_pairs(job.train)
        elif isinstance(model, ImportedImages):
            model.check(job.plan.masks, job.copies)
        else:
            model.objective.to(self.runtime.device)
        return model

    @cached_property
    def sampling(self) -> Sampling:
        job, settings, entry = self.job, self.job.params.generate, self.job.entry
        return Sampling(
            settings.steps,
            entry.guidance_scale(job.name, settings.guidance_scale),
            settings.precision,
            settings.sampler,
            settings.compile,
            settings.reused,
            job.image_weight,
            guidance.guidance_interval(entry),
            guidance.weaker_generator(job.params.study, job.params.seed, job.name, entry, job.real.spec, self.runtime),
            settings.eta,
        )

    @cached_property
    def train_rows(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.job.train}

    def _source(self, image: PlannedImage) -> NDArray[np.uint8] | None:
        """Return the training image [3, H, W] whose own mask the image follows; None where it is not one's.

        Where images control the drawing, it is the image of the source of the mask, moved as the mask was.
        """
        train = self.job.train
        if (row := self.train_rows.get(image.mask.source_id)) is None:
            return None
        if self.job.image_weight is not None:
            return moved_image(train.picture(row), self.job.entry.masks, image.mask.transform)
        return train.picture(row) if np.array_equal(train.mask(row), image.label) else None

    @cached_property
    def forbidden(self) -> frozenset[str]:
        return mask_hashes.held_out_digests(self.job.real)

    def batch(self, number: int) -> None:
        """Sample batch `number` unless it is complete; its row file comes last, so that half a batch is made again."""
        images = self.job.plan[number]
        self._refuse_held_out(images)
        if self._is_complete(number, images):
            return
        is_drawn = not isinstance(self.generator, ImportedImages)  # it is loaded before the time is taken
        started = time.monotonic()
        pixels = self._sample(images)
        seconds = time.monotonic() - started
        with files.writing_to(self.work):
            if is_drawn:
                timing.keep(self.work, number, len(images), seconds)
            rows = [self._write(*pair) for pair in zip(images, pixels, strict=True)]
            files.write_sealed(_row_file(self.work, number), rows)

    def _refuse_held_out(self, images: Sequence[PlannedImage]) -> None:
        for image in images:
            if mask_hashes.mask_digest(image.mask.pixels) in self.forbidden:
                raise UserError(
                    f"mask {image.mask.id} (from {image.mask.source_id}) belongs to a validation or test image, and"
                    " training with it would make the test worthless. Remove it from the masks of"
                    f" generators.{self.job.name}"
                )

    def _is_complete(self, number: int, images: Sequence[PlannedImage]) -> bool:
        """Whether the row file lists these images and masks, and their files are intact."""
        rows, folder = _rows_of(self.work, number), self.work / "set"
        return len(rows) == len(images) and all(
            row["id"] == image.id and self.job.about(image).items() <= row.items() and _intact(folder, row, image)
            for row, image in zip(rows, images, strict=True)
        )

    def _sample(self, images: Sequence[PlannedImage]) -> NDArray[np.uint8]:
        """Return colours [B, 3, H, W], each image from a random stream of its own, or as it was brought in."""
        if isinstance(self.generator, ImportedImages):
            return np.stack([self.generator.image(image.mask, image.copy) for image in images])
        seed = self.job.stream
        masks = torch.from_numpy(np.stack([image.label for image in images]))
        rngs = [seeding.torch_rng(seed, "sample", image.mask.id, image.copy) for image in images]
        prompts = [image.mask.prompt for image in images]
        backgrounds = [image.background for image in images if image.background is not None]
        real = real_images(backgrounds, self.job.entry) if backgrounds else None
        sources = [self._source(image) for image in images]
        with self.runtime.autocast(self.sampling.precision):
            sampled = self.generator.sample(masks, prompts, rngs, self.sampling, sources, real)
        return (sampled * 255).round().clamp(0, 255).byte().cpu().numpy()

    def _write(self, image: PlannedImage, pixels: NDArray[np.uint8]) -> Row:
        mask, about = image.mask, self.job.about(image)
        sample = Sample(image.id, pixels, image.label[None], mask.prompt, "train", mask.source)
        text = provenance.text_chunks(image.id, mask.prompt, about)
        return write_pair(self.work / "set", sample, about, text, image.shelf)


def _intact(folder: Path, row: Row, image: PlannedImage) -> bool:
    return is_intact(folder, row) and row[HASHES["mask"]] == files.sha256_of(png(image.label))


def _finish(job: Job, work: Path) -> None:
    """Write the card, the Croissant file and, last, the manifest."""
    folder = work / "set"
    with finishing(folder, job.real.spec, _rows(work, len(job.plan))) as manifest:
        card.write(folder, job.summary())
        croissant.write(folder, job.summary(), files.sha256(manifest))


def _rows(work: Path, batches: int) -> Iterator[Row]:
    return (row for number in range(batches) for row in _rows_of(work, number))


def _rows_of(work: Path, number: int) -> list[Row]:
    """Return the rows of a batch; none where its row file is missing or damaged."""
    return files.read_sealed(_row_file(work, number)) or []


def _row_file(work: Path, number: int) -> Path:
    return work / "rows" / f"{number // SHELF:06d}" / f"{number:09d}.json"
