"""Generation of an image set: planned before it is dealt, one random stream per image, resumable, manifest last."""

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
from pipeline.core.contracts import ConditioningMask, Generator, Sampling, Untrained
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.runtime import Runtime
from pipeline.data import mask_hashes
from pipeline.data.image_set import HASHES, ImageSet, Row, finishing, png, write_pair
from pipeline.data.sample import Sample
from pipeline.data.verification import intact
from pipeline.stages.finetune import finetune
from pipeline.stages.generate import card, croissant, provenance
from pipeline.stages.generate.plan import Plan, Planned
from pipeline.study import Params

VERSION = 2  # raised when results change
SHELF = 1000  # row files in one folder


def generate(params: Params, generator: str) -> None:
    """Publishes `copies` images per mask; batches that are finished and whole are skipped after a crash."""
    runtime = Runtime.start(params.threads)
    real, trained = ImageSet.open(paths.real(params.study)), paths.generator(params.study, generator)
    job = Job(params, generator, trained, params.generators[generator].copies, real)
    work = paths.work("generate", job.fingerprint)
    fill(job, runtime, work)
    if runtime.is_main:
        target = paths.synthetic(params.study, generator)
        with files.writing_to(target):
            files.publish(work / "set", target)
    runtime.barrier()


@dataclass(frozen=True)
class Job:
    """One image set: `copies` images per mask of a generator entry, by the weights in the folder `trained`."""

    params: Params
    generator: str
    trained: Path
    copies: int
    real: ImageSet

    @cached_property
    def weights(self) -> str:
        """Hash of the trained generator's files."""
        return files.tree_sha256(self.trained)

    @property
    def stream(self) -> int | str:
        """Name of the random streams of the entry."""
        return finetune.stream(self.params, self.generator)

    @cached_property
    def plan(self) -> Plan:
        """Which masks are drawn. Raises UserError where there is none."""
        entry, where = self.params.generators[self.generator], f"generators.{self.generator}"
        own = plugins.read_params("masks", entry.masks, entry.mask_params, f"{where}.mask_params")
        build, seed = plugins.load("masks", entry.masks).build, f"{self.params.seed}/masks"
        masks = build(own, self.real.split("train"), entry.count, seed)
        if not len(masks):
            raise UserError(f"{where}.masks: {entry.masks} gives no mask; is the training split empty?")
        return Plan(masks, self.copies, self.params.generate.batch_size)

    @property
    def fingerprint(self) -> str:
        """Identifies everything that the files depend on."""
        entry, study = self.params.generators[self.generator], (self.params.seed, self.params.threads)
        masks = getattr(self.plan.masks, "digest", "")  # of what else than the training set they are made
        inputs = (self.weights, self.real.split("train").digest, masks)
        return files.fingerprint(
            VERSION, pipeline.__version__, self.generator, entry, self.copies, self.params.generate, study, inputs
        )

    @cached_property
    def columns(self) -> dict[str, Any]:
        """What all rows of the set share."""
        method = finetune.method(self.params, self.generator)
        return provenance.of_set(self.params, self.generator, method, self.weights)

    def about(self, image: Planned) -> dict[str, Any]:
        """The columns of one image."""
        seed = seeding.number(self.stream, "sample", image.mask.id, image.copy)
        return provenance.of_image(self.columns, image.mask, image.copy, seed)

    def facts(self) -> card.Facts:
        """What the dataset card tells."""
        entry, manifest = self.params.generators[self.generator], paths.base(self.params.study) / "manifest.json"
        source = files.read_json(manifest)["source"] if manifest.is_file() else "unknown"
        counts = (self.plan.images, len(self.plan.masks), self.copies)
        choices = {"seed": self.params.seed, "batch_size": self.plan.batch_size, "mask_params": entry.mask_params}
        return card.Facts(self.real.spec, *counts, None if source == "scratch" else source, self.columns, choices)


def fill(job: Job, runtime: Runtime, work: Path) -> None:
    """Makes the image set work/set on all processes, each its own batches; what is there and whole is kept."""
    making = _Making(job, runtime, work)
    numbers = range(runtime.rank, len(job.plan), runtime.world)
    for number in track(numbers, f"generate {job.generator}", visible=runtime.is_main):
        making.batch(number)
    runtime.barrier()
    if runtime.is_main:
        with files.writing_to(work):
            _finish(job, work)
    runtime.barrier()


@dataclass(frozen=True)
class _Making:
    """One process's share of a set; the generator is loaded for the first batch that is not there."""

    job: Job
    runtime: Runtime
    work: Path

    @cached_property
    def generator(self) -> Generator | Untrained:
        model = finetune.build(self.job.params, self.job.generator, self.job.real.spec, self.runtime)
        for folder in (paths.generator(self.job.params.study, self.job.generator), self.job.trained):
            files.check(folder)
        model.load(self.job.trained)
        if isinstance(model, Untrained):
            model.show(self.train)
        else:
            model.objective.to(self.runtime.device)
        return model

    @cached_property
    def train(self) -> ImageSet:
        return self.job.real.split("train")

    @cached_property
    def train_rows(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.train}

    def _source(self, mask: ConditioningMask) -> NDArray[np.uint8] | None:
        """The training image [3, H, W] whose own mask this is."""
        row = self.train_rows.get(mask.source_id)
        own = row is not None and np.array_equal(self.train.mask(row), mask.pixels)
        return self.train.picture(row) if row is not None and own else None

    @cached_property
    def forbidden(self) -> frozenset[str]:
        return mask_hashes.forbidden(self.job.real)

    def batch(self, number: int) -> None:
        """Makes batch `number` unless it is there; its row file comes last, so that half a batch is made again."""
        images = self.job.plan[number]
        self._refuse_held_out(images)
        if self._is_there(number, images):
            return
        pixels = self._draw(images)
        with files.writing_to(self.work):
            rows = [self._write(*pair) for pair in zip(images, pixels, strict=True)]
            files.write_sealed(_row_file(self.work, number), rows)

    def _refuse_held_out(self, images: Sequence[Planned]) -> None:
        for image in images:
            if mask_hashes.digest(image.mask.pixels) in self.forbidden:
                raise UserError(
                    f"mask {image.mask.id} (from {image.mask.source_id}) is that of a validation or test image; a test"
                    f" after that is worthless. Take it out of the masks of generators.{self.job.generator}"
                )

    def _is_there(self, number: int, images: Sequence[Planned]) -> bool:
        """Whether the row file tells of these images and masks, and their files are whole."""
        rows, folder = _rows_of(self.work, number), self.work / "set"
        return len(rows) == len(images) and all(
            row["id"] == image.id and self.job.about(image).items() <= row.items() and _whole(folder, row, image)
            for row, image in zip(rows, images, strict=True)
        )

    def _draw(self, images: Sequence[Planned]) -> NDArray[np.uint8]:
        """Colours [B, H, W, 3], each image from a random stream of its own."""
        seed, settings = self.job.stream, self.job.params.generate
        masks = torch.from_numpy(np.stack([image.mask.pixels for image in images]))
        rngs = [seeding.torch_rng(seed, "sample", image.mask.id, image.copy) for image in images]
        prompts = [image.mask.prompt for image in images]
        how = (settings.precision, settings.sampler, settings.compile, settings.reused)
        sampling = Sampling(settings.steps, settings.guidance_scale, *how)
        with self.runtime.autocast(settings.precision):
            drawn = self.generator.sample(
                masks, prompts, rngs, sampling, [self._source(image.mask) for image in images]
            )
        return (drawn * 255).round().clamp(0, 255).byte().cpu().numpy()

    def _write(self, image: Planned, pixels: NDArray[np.uint8]) -> Row:
        mask, about = image.mask, self.job.about(image)
        sample = Sample(image.id, pixels, mask.pixels[None], mask.prompt, "train", mask.source)
        text = provenance.text(image.id, mask.prompt, about)
        return write_pair(self.work / "set", sample, about, text, image.shelf)


def _whole(folder: Path, row: Row, image: Planned) -> bool:
    return intact(folder, row) and row[HASHES["mask"]] == files.sha256_of(png(image.mask.pixels))


def _finish(job: Job, work: Path) -> None:
    """Writes card, Croissant file and, last, the manifest."""
    folder = work / "set"
    with finishing(folder, job.real.spec, _rows(work, len(job.plan))) as manifest:
        card.write(folder, job.facts())
        croissant.write(folder, job.facts(), files.sha256(manifest))


def _rows(work: Path, batches: int) -> Iterator[Row]:
    return (row for number in range(batches) for row in _rows_of(work, number))


def _rows_of(work: Path, number: int) -> list[Row]:
    """The rows of a batch; none where its row file is missing or damaged."""
    return files.read_sealed(_row_file(work, number)) or []


def _row_file(work: Path, number: int) -> Path:
    return work / "rows" / f"{number // SHELF:06d}" / f"{number:09d}.json"
