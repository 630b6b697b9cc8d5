"""Fingerprints of fine-tuning: what the trained weights of an entry depend on."""

from typing import Any

from pipeline.core import files, paths, plugins
from pipeline.data.image_set import ImageSet
from pipeline.stages.finetune import generator
from pipeline.stages.finetune.params import Finetune
from pipeline.study import Params

# Keys of finetune that change no weight; max_steps is part of the name of the finished folder.
NO_EFFECT_ON_WEIGHTS = {"max_steps", "checkpoint_every", "keep_checkpoints", "tracker"}


def fingerprint(params: Params, name: str, train: ImageSet) -> str:
    """Identify everything that the trained weights of an entry depend on."""
    return of_finished_run(trajectory(params, name, train), params.finetune.max_steps)


def of_finished_run(trajectory: str, max_steps: int) -> str:
    """Identify the weights of a trajectory after its last step."""
    return files.fingerprint(trajectory, max_steps)


def trajectory(params: Params, name: str, train: ImageSet) -> str:
    """Identify the weights after every step, however many there are: all but the number of the last step."""
    entry = params.generators[name]
    finetune = entry.settings(params.finetune)
    method, options = entry.method_of(name), generator.options(name, entry)
    base = files.tree_sha256(paths.base(params.study)) if entry.uses_base(name) else None
    version = plugins.load("generators", method).VERSION
    settings = finetune.model_dump(mode="json", exclude=NO_EFFECT_ON_WEIGHTS)
    settings["schedule_steps"] = finetune.schedule_steps or finetune.max_steps
    watched = plugins.watched_files("generators", method, entry.options, f"generators.{name}")
    data = train.digest, _validation_data(finetune, train), *watched.values()
    stream = generator.stream(params.seed, entry)
    return files.fingerprint(method, version, options, settings, stream, params.threads, base, data)


def _validation_data(finetune: Finetune, train: ImageSet) -> Any:
    """Return what the published previews depend on beside the weights; None where there are none."""
    if finetune.validate_every is None and finetune.sample_every is None:
        return None
    return ImageSet.open(train.folder).split("val").digest
