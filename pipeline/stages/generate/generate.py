"""Generation of an image set: planned before it is dealt, one random stream per image, resumable, manifest last."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core import files, paths, seeding
from pipeline.core.contracts import Generator, ImportedImages, Sampling, TrainingFreeGenerator
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.runtime import Runtime
from pipeline.data import mask_hashes
from pipeline.data.image_set import HASHES, ImageSet, Row, finishing, png
from pipeline.data.moved_images import moved_image
from pipeline.data.pseudo_labels import pseudo_labelled
from pipeline.data.sample import Sample
from pipeline.stages.finetune.generator import build
from pipeline.stages.generate import card, croissant, guidance, provenance, timing
from pipeline.stages.generate.job import Job
from pipeline.stages.generate.plan import PlannedImage
from pipeline.stages.generate.real_pixels import real_images
from pipeline.stages.generate.store import Store
from pipeline.study import Params


def generate(params: Params, name: str) -> None:
    """Publish `copies` images per mask; units of work that are finished and intact are skipped after a crash."""
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


def fill(job: Job, runtime: Runtime, work: Path) -> None:
    """Fill the image set work/set on all processes, each its own batches or shards; those that are intact are kept."""
    store = Store(work, job.plan, job.params.generate.shards)
    filling = _Filling(job, runtime, store)
    if runtime.is_main:
        store.sweep()
    runtime.barrier()
    numbers = range(runtime.rank, len(store), runtime.world)
    for number in track(numbers, f"generate {job.name}", visible=runtime.is_main):
        filling.unit(number)
    runtime.barrier()
    if runtime.is_main:
        with files.writing_to(work):
            _finish(job, store)
    runtime.barrier()


@dataclass(frozen=True)
class _Filling:
    """One process's share of a set; the generator is loaded for the first unit of work that is not there."""

    job: Job
    runtime: Runtime
    store: Store

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
        return mask_hashes.held_out_digests(self.job.real, pseudo_labelled(self.job.train))

    def unit(self, number: int) -> None:
        """Sample a unit of work unless it is complete; its row file comes last, so half a unit is made again."""
        if self._is_complete(number):
            return
        is_drawn = not isinstance(self.generator, ImportedImages)  # it is loaded before the time is taken
        rows: list[Row] = []
        seconds = 0.0
        with files.writing_to(self.store.work):
            with self.store.writing(number) as write:
                for batch in self.store.batches(number):
                    images = self.planned(batch)
                    started = time.monotonic()
                    pixels = self._sample(images)
                    seconds += time.monotonic() - started
                    rows += [write(*pair) for pair in self._described(images, pixels)]
            if is_drawn:
                timing.keep(self.store.work, number, len(rows), seconds)
            self.store.keep(number, rows)

    @cached_property
    def planned(self) -> Callable[[int], list[PlannedImage]]:
        """The images of a batch, which are looked up twice. Raises UserError where a mask must not be drawn."""

        @lru_cache(maxsize=1)
        def planned(batch: int) -> list[PlannedImage]:
            images = self.job.plan[batch]
            self._refuse_held_out(images)
            return images

        return planned

    def _refuse_held_out(self, images: Sequence[PlannedImage]) -> None:
        for image in images:
            if mask_hashes.mask_digest(image.mask.pixels) in self.forbidden:
                raise UserError(
                    f"mask {image.mask.id} (from {image.mask.source_id}) belongs to a validation or test image, and"
                    " training with it would make the test worthless. Remove it from the masks of"
                    f" generators.{self.job.name}"
                )

    def _is_complete(self, number: int) -> bool:
        """Whether the row file lists these images and masks, and their files are intact."""
        rows = iter(self.store.rows(number))
        for batch in self.store.batches(number):
            for image in self.planned(batch):
                row = next(rows, None)
                if row is None or not self._is_of(row, image):
                    return False
        return next(rows, None) is None and self.store.is_intact(number)

    def _is_of(self, row: Row, image: PlannedImage) -> bool:
        same = row["id"] == image.id and self.job.about(image).items() <= row.items()
        return same and row[HASHES["mask"]] == files.sha256_of(png(image.label))

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
        sources = _Sources(images, self._source)
        with self.runtime.autocast(self.sampling.precision):
            sampled = self.generator.sample(masks, prompts, rngs, self.sampling, sources, real)
        if (noise := self.job.sensor_noise) is not None:
            shares = [None] * len(images) if real is None else real.shares
            streams = [seeding.numpy_rng(seed, "sensor_noise", image.mask.id, image.copy) for image in images]
            drawn = zip(sampled.float().cpu().numpy(), streams, shares, strict=True)
            sampled = torch.from_numpy(np.stack([noise.add(*one) for one in drawn]))
        return (sampled * 255).round().clamp(0, 255).byte().cpu().numpy()

    def _described(
        self, images: Sequence[PlannedImage], pixels: NDArray[np.uint8]
    ) -> Iterator[tuple[PlannedImage, Sample, Row, Mapping[str, str]]]:
        """Yield each image with its sample, the columns of its row and the text of its file."""
        for image, drawn in zip(images, pixels, strict=True):
            mask, about = image.mask, self.job.about(image)
            sample = Sample(image.id, drawn, image.label[None], mask.prompt, "train", mask.source)
            yield image, sample, about, provenance.text_chunks(image.id, mask.prompt, about)


@dataclass(frozen=True)
class _Sources(Sequence[NDArray[np.uint8] | None]):
    """The training images of planned images, each decoded when a generator looks at it."""

    images: Sequence[PlannedImage]
    source: Callable[[PlannedImage], NDArray[np.uint8] | None]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> NDArray[np.uint8] | None:  # type: ignore[override]
        return self.source(self.images[number])


def _finish(job: Job, store: Store) -> None:
    """Write the card, the Croissant file and, last, the manifest."""
    with finishing(store.folder, job.real.spec, store.all_rows()) as manifest:
        card.write(store.folder, job.summary())
        croissant.write(store.folder, job.summary(), files.sha256(manifest))
