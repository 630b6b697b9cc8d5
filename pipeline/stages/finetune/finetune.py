"""Fine-tuning of one generator entry on the training pairs."""

import logging
import shutil
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files, locks, paths, tables
from pipeline.core.contracts import Generator, ImportedImages, TrainingFreeGenerator
from pipeline.core.recipes import PrivacyRecipe, Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Pairs
from pipeline.stages.finetune import generator, memory, presets, previews
from pipeline.stages.finetune.fingerprint import of_finished_run, trajectory
from pipeline.stages.finetune.params import Finetune, GeneratorEntry
from pipeline.stages.finetune.private import privacy_recipe, record
from pipeline.stages.finetune.training_images import fine_tuning_pairs
from pipeline.study import Params
from pipeline.training import checkpoints
from pipeline.training.callbacks import LossRow, Monitoring
from pipeline.training.clock import Clock
from pipeline.training.loop import check_recipe, fit, snapshot_path
from pipeline.training.strategy import trainable_parameters

log = logging.getLogger(__name__)


def finetune(params: Params, name: str) -> None:
    """Publish a fine-tuned generator; a killed run resumes, entries that differ in generation only share the work.

    Training sees the pairs within the limit of the entry, or also images with pseudo-labels. Of such entries in two
    processes at once, as in the jobs of a cluster, one trains and the other waits for it. A finished run goes on to a
    larger finetune.max_steps where finetune.schedule_steps gives the length of its schedule.
    """
    runtime = Runtime.start(params.threads)
    real = ImageSet.open(paths.real(params.study))
    train = fine_tuning_pairs(params.study, params.seed, name, params.generators[name], real)
    work = paths.work("finetune", trajectory(params, name, train))
    run = FinetuneRun(params, name, real, train, runtime, work)
    with locks.wait_for(work.name) if runtime.is_main else nullcontext():
        folder = run.finished_folder()
        if runtime.is_main:
            files.publish(folder, paths.generator(params.study, name))
            files.write_json(paths.finetune_seconds(params.study, name), run.timing())
        runtime.barrier()


@dataclass(frozen=True)
class FinetuneRun:
    """The fine-tuning of one entry, with its checkpoints in the folder `work`."""

    params: Params
    name: str
    real: ImageSet
    train: ImageSet  # what the entry is fine-tuned on
    runtime: Runtime
    work: Path

    @property
    def entry(self) -> GeneratorEntry:
        """The entry of the section `generators`."""
        return self.params.generators[self.name]

    @property
    def max_steps(self) -> int:
        """Optimiser steps of the run."""
        return self.params.finetune.max_steps

    @property
    def clock(self) -> Clock:
        """Measures how long the training takes."""
        return Clock(self.work / "seconds.json")

    def timing(self) -> dict[str, float | int | None]:
        """Return the number of steps and the seconds that they took; None where they were not measured, or none ran."""
        return {"steps": self.max_steps, "seconds": self.clock.seconds(self.max_steps)}

    def finished_folder(self) -> Path:
        """Return the folder of the finished generator, trained unless it is there and complete."""
        folder = self.work / f"generator_{self.max_steps:06d}"
        if self.runtime.broadcast(files.is_intact(folder)):
            return folder
        if self.runtime.is_main:
            shutil.rmtree(folder, ignore_errors=True)  # its files may be links to published ones: never write into them
        privacy = self._train(folder)
        if self.runtime.is_main:
            fingerprint = of_finished_run(self.work.name.partition("-")[2], self.max_steps)
            about = {"fingerprint": fingerprint, "method": self.entry.method_of(self.name)}
            files.write_json(folder / "manifest.json", about | presets.record(self.work) | privacy)
            files.seal(folder)
        return folder

    def _train(self, folder: Path) -> dict[str, Any]:
        """Write the generator, its losses and previews, and return what its manifest says of its privacy."""
        params, runtime, train = self.params, self.runtime, self.train
        settings = self._fitted_settings()
        privacy = privacy_recipe(settings, len(train)) if self.entry.learns(self.name) else None
        model = generator.build(params.study, params.seed, self.name, self.entry, train.spec, runtime)
        if isinstance(model, TrainingFreeGenerator):
            model.set_training_pairs(train)
        if isinstance(model, TrainingFreeGenerator | ImportedImages):
            if runtime.is_main:
                model.save(folder)
            return {}
        run_recipe = recipe(settings, self.work.name, privacy)
        check_recipe(run_recipe, settings.global_batch, runtime)
        if runtime.is_main:
            presets.note(self.work, presets.differences(self.entry.settings(params.finetune), settings))
        model.prepare(settings)
        rows = self._fit(model, settings, run_recipe)
        if runtime.is_main:
            _save(model, rows if privacy is None else [], settings.snapshots, self.work, folder)
            previews.publish(self.work, folder, self.max_steps)
        runtime.barrier()
        weights = sum(weight.numel() for weight in trainable_parameters(model.objective))
        return record(settings, privacy, len(train), weights)

    def _fitted_settings(self) -> Finetune:
        """Return the settings under the shell's preset or, where study and shell leave them open, those that fit."""
        params, runtime = self.params, self.runtime
        free = presets.chosen() is None and presets.leaves_open(params.finetune)
        settings = presets.fitted(self.entry.settings(params.finetune))
        fitting = runtime.broadcast(memory.fit_device(params, self.name, settings, runtime, free))
        if fitting != settings and runtime.is_main:
            log.warning("finetune %s: %s, chosen so that it fits the GPU", self.name, memory.described(fitting))
        return fitting

    def _fit(self, model: Generator, settings: Finetune, run_recipe: Recipe) -> list[LossRow]:
        """Train the generator, watched by the tracker and the previews that the settings ask for."""
        params, runtime, work = self.params, self.runtime, self.work
        tracker = runtime.tracker(settings.tracker, work / "tracker", f"{params.study}-{self.name}")
        stream = generator.stream(params.seed, self.entry)
        batches = model.batches(Pairs.read(self.train), settings, f"{stream}/finetune")
        callbacks = previews.callbacks(settings, params.seed, model, self.real.split("val"), runtime, work, tracker)
        title = f"finetune {self.name}"
        monitoring = Monitoring(callbacks, tracker, clock=self.clock if runtime.is_main else None)
        rows = fit(model.objective, batches, run_recipe, runtime, work, title, monitoring)
        if tracker is not None:
            tracker.finish()
        return rows


def recipe(settings: Finetune, identity: str = "", privacy: PrivacyRecipe | None = None) -> Recipe:
    """Return the recipe of the settings: AdamW, in the paper at the constant rate 1e-5 with weight decay 1e-2."""
    return Recipe(
        max_steps=settings.max_steps,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        schedule=settings.schedule,
        max_grad_norm=settings.max_grad_norm,
        precision=settings.precision,
        micro_batch=settings.micro_batch,
        checkpoint_every=settings.checkpoint_every,
        snapshots=settings.snapshots,
        schedule_steps=settings.schedule_steps,
        keep_checkpoints=settings.keep_checkpoints,
        identity=identity,
        optimizer=settings.optimizer,
        ema_decay=settings.ema_decay,
        privacy=privacy,
    )


def _save(model: Generator, rows: list[LossRow], snapshots: tuple[int, ...], work: Path, folder: Path) -> None:
    """Write the finished generator, its losses, if there are any to be published, and its snapshots."""
    model.save(folder)
    for step in snapshots:
        weights = checkpoints.load(snapshot_path(work, step))
        model.objective.load_state_dict(weights, strict=False)
        model.save(folder / "snapshots" / f"{step:06d}")
    if not rows:
        return  # losses of training pairs carry no noise
    table = [{"step": step, **row} for step, row in enumerate(rows)]
    tables.write_table(folder / "losses.csv", table, sorted({c for row in table for c in row}))
