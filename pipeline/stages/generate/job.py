"""What a synthetic set is made of and by: its generator, its plan, its fingerprint and the columns of its rows."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pipeline
from pipeline.core import files, plugins, seeding
from pipeline.core.contracts import SeesImages
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.pseudo_labels import labelled
from pipeline.data.sensor_noise import SensorNoise
from pipeline.stages.base.manifest import base_source, unlabelled_images
from pipeline.stages.finetune import privacy_record
from pipeline.stages.finetune.generator import options, stream
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.finetune.training_images import fine_tuning_pairs
from pipeline.stages.generate import card, guidance, provenance
from pipeline.stages.generate.plan import Plan, PlannedImage
from pipeline.stages.generate.real_pixels import Backgrounds
from pipeline.stages.prepare.control import check_control
from pipeline.study import Params

VERSION = 3  # raised when results change


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
        """What the entry was fine-tuned on: from which masks and pixels come."""
        return fine_tuning_pairs(self.params.study, self.params.seed, self.name, self.entry, self.real)

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
        masks = source.build(mask_params, self.train, entry.count, seed)
        if not len(masks):
            raise UserError(f"{where}.masks: {entry.masks} gives no mask; is the training split empty?")
        batch_size = self.params.generate.batch_size
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
    def sensor_noise(self) -> SensorNoise | None:
        """The noise that the images get; None for a generator that learns nothing, or where it is not asked for."""
        if not self.params.generate.sensor_noise or not self.entry.learns(self.name):
            return None
        return SensorNoise.of(self.train)

    @cached_property
    def columns(self) -> dict[str, Any]:
        """The columns that all rows of the set share."""
        about = self.name, self.entry, self.params.generate, self.weights
        shared = provenance.set_columns(*about, self.unlabelled, self.image_weight, len(labelled(self.train)))
        shared |= provenance.pseudo_label_columns(self.entry, self.train)
        if self.sensor_noise is not None:
            shared["sensor_noise"] = json.dumps([round(255 * level, 3) for level in self.sensor_noise.level])
        return shared | privacy_record.columns(privacy_record.read(self.trained))

    @property
    def unlabelled(self) -> int:
        """How many images the base has seen without their masks; 0 where the generator uses no base."""
        beyond = len(self.real.split("train")) - len(labelled(self.train))
        return unlabelled_images(self.params.study, beyond) if self.entry.learns_on_base(self.name) else 0

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
        sharded = self.params.generate.shards is not None
        base = None if source == "scratch" or not self.entry.learns_on_base(self.name) else source
        return card.SetSummary(self.real.spec, *counts, base, self.columns, choices, self.unlabelled, sharded)
