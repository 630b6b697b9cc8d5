"""Fine-tuning of one generator entry on the training pairs."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.core import files, locks, paths, plugins, seeding, tables
from pipeline.core.contracts import Generator, Recipe, Untrained
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.methods.generators._control import recipe
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.finetune import memory, presets, previews
from pipeline.stages.finetune.params import Finetune
from pipeline.study import Params
from pipeline.training import checkpoints
from pipeline.training.callbacks import Row, Watch
from pipeline.training.loop import check, fit, snapshot

# Keys of finetune that change no weight; max_steps is told by the name of the finished folder.
NOT_OF_THE_WEIGHTS = {"max_steps", "checkpoint_every", "keep_checkpoints", "tracker"}


def finetune(params: Params, generator: str) -> None:
    """Publishes a fine-tuned generator; a killed run resumes, entries that differ in generation only share the work.

    A finished run goes on to a larger finetune.max_steps where finetune.schedule_steps says the length of its schedule.
    """
    runtime = Runtime.start(params.threads)
    real = ImageSet.open(paths.real(params.study))
    course = trajectory(params, generator, real.split("train"))
    work = paths.work("finetune", course)
    with locks.held(work.name) if runtime.is_main else nullcontext():
        folder = _trained(params, generator, real, runtime, work)
        if runtime.is_main:
            files.publish(folder, paths.generator(params.study, generator))
        runtime.barrier()


def _trained(params: Params, generator: str, real: ImageSet, runtime: Runtime, work: Path) -> Path:
    """The folder of the finished generator, trained unless it is there and whole."""
    folder = work / f"generator_{params.finetune.max_steps:06d}"
    if runtime.agreed(files.is_whole(folder)):
        return folder
    if runtime.is_main:
        shutil.rmtree(folder, ignore_errors=True)  # its files may be links to published ones: never write into them
    _train(params, generator, real, runtime, work, folder)
    if runtime.is_main:
        identity = _finished(work.name.partition("-")[2], params)
        about = {"fingerprint": identity, "method": method(params, generator)}
        files.write_json(folder / "manifest.json", about | presets.record(work))
        files.seal(folder)
    return folder


def fingerprint(params: Params, generator: str, train: ImageSet) -> str:
    """Identifies everything that the trained weights depend on."""
    return _finished(trajectory(params, generator, train), params)


def _finished(course: str, params: Params) -> str:
    return files.fingerprint(course, params.finetune.max_steps)


def trajectory(params: Params, generator: str, train: ImageSet) -> str:
    """Identifies the weights after every step, however many there are: all but the last step's number."""
    name = method(params, generator)
    own = plugins.read_params("generators", name, params.generators[generator].own, f"generators.{generator}")
    base = files.tree_sha256(paths.base(params.study))
    version = plugins.load("generators", name).VERSION
    chosen = params.finetune
    settings = chosen.model_dump(mode="json", exclude=NOT_OF_THE_WEIGHTS)
    settings["schedule_steps"] = chosen.schedule_steps or chosen.max_steps
    seen = train.digest, _watched(params, train)
    return files.fingerprint(name, version, own, settings, stream(params, generator), params.threads, base, seen)


def _watched(params: Params, train: ImageSet) -> Any:
    """What the published previews depend on beside the weights; None where there are none."""
    if params.finetune.validate_every is None and params.finetune.sample_every is None:
        return None
    return ImageSet.open(train.folder).split("val").digest


def method(params: Params, generator: str) -> str:
    """The plug-in of an entry."""
    return params.generators[generator].method or generator


def stream(params: Params, generator: str) -> int | str:
    """Name of the random streams of an entry: the study's seed, and the entry's own where it has one."""
    own = params.generators[generator].seed
    return f"{params.seed}.{own}" if own else params.seed


def build(params: Params, generator: str, spec: DatasetSpec, runtime: Runtime) -> Generator | Untrained:
    """The generator of an entry over the study's base, before training."""
    name = method(params, generator)
    own = plugins.read_params("generators", name, params.generators[generator].own, f"generators.{generator}")
    model = StableDiffusion.open(paths.base(params.study), keep=paths.WORK / "moments").to(runtime.device)
    seeding.seed_everything(stream(params, generator), "control", name)
    return plugins.load("generators", name).build(own, model, spec)


def _train(params: Params, generator: str, real: ImageSet, runtime: Runtime, work: Path, folder: Path) -> None:
    train, val = real.split("train"), real.split("val")
    settings = presets.fitted(params.finetune)
    memory.check_device(params, generator, settings, runtime)
    model = build(params, generator, train.spec, runtime)
    if isinstance(model, Untrained):
        model.show(train)
        if runtime.is_main:
            model.save(folder)
        return
    how = _recipe(settings, work.name)
    check(how, settings.global_batch, runtime)
    if runtime.is_main:
        presets.note(work)
    model.prepare(settings)
    tracker = runtime.tracker(params.finetune.tracker, work / "tracker", f"{params.study}-{generator}")
    batches = model.batches(Pairs.read(train), params.finetune, f"{stream(params, generator)}/finetune")
    watch = Watch(previews.looks(params, model, val, runtime, work, tracker), tracker)
    rows = fit(model.objective, batches, how, runtime, work, f"finetune {generator}", watch)
    if tracker is not None:
        tracker.finish()
    if runtime.is_main:
        _save(model, rows, params.finetune.snapshots, work, folder)
        previews.publish(work, folder, params.finetune.max_steps)
    runtime.barrier()


def _recipe(settings: Finetune, identity: str) -> Recipe:
    return replace(
        recipe(settings),
        schedule_steps=settings.schedule_steps,
        keep_checkpoints=settings.keep_checkpoints,
        identity=identity,
    )


def _save(model: Generator, rows: list[Row], snapshots: tuple[int, ...], work: Path, folder: Path) -> None:
    """Writes the finished generator, its losses and its snapshots."""
    model.save(folder)
    for step in snapshots:
        weights = checkpoints.load(snapshot(work, step))
        model.objective.load_state_dict(weights, strict=False)
        model.save(folder / "snapshots" / f"{step:06d}")
    table = [{"step": step, **row} for step, row in enumerate(rows)]
    tables.write_table(folder / "losses.csv", table, sorted({c for row in table for c in row}))
