"""Export of a fine-tuned generator as a folder of diffusers, which runs where this package is not installed."""

import os
import shutil
from pathlib import Path
from typing import Any

import torch

import pipeline
from pipeline.core import files, paths
from pipeline.core.contracts import Sampling
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.deploy import generator_card
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.methods.generators._sampling import scheduler_of
from pipeline.networks.stable_diffusion import pipeline_folder
from pipeline.stages.finetune import generator
from pipeline.stages.finetune.fingerprint import fingerprint
from pipeline.stages.finetune.training_images import fine_tuning_pairs
from pipeline.study import Params

METHODS = ("siamese", "adc", "controlnet", "mask_image")  # those that diffusers' ControlNet pipeline can run
RECORD = "twinsynth.json"  # names the generator that a folder is an export of; written last


def export(params: Params, name: str, target: Path) -> None:
    """Write `target` completely or not at all; an older export of the same entry is replaced.

    Raises UserError, also where the older export holds files that no export wrote: they would be lost.
    """
    train = _training_images(params, name)
    folder = paths.generator(params.study, name)
    record = {
        "study": params.study,
        "generator": name,
        "generator_sha256": files.tree_sha256(folder),
        "version": pipeline.__version__,
    }
    _check_target(target, record)
    work = paths.work("export", files.fingerprint(record, str(target.absolute())))
    shutil.rmtree(work, ignore_errors=True)  # left by a killed export
    with files.writing_to(target):
        try:
            _write(params, name, train, work)
            files.write_json(work / RECORD, record)
            files.publish(work, target)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _training_images(params: Params, name: str) -> ImageSet:
    """Return the training images.

    Raises UserError where the entry is unknown, its method cannot be exported, or it was trained otherwise.
    """
    if name not in params.generators:
        names = ", ".join(params.generators)
        raise UserError(f"there is no generator {name!r} in params.yaml; the available ones are: {names}")
    method = params.generators[name].method_of(name)
    if method not in METHODS:
        raise UserError(
            f"generators.{name}: the method {method} is not a ControlNet on masks and cannot be exported; those that"
            f" can: {', '.join(METHODS)}"
        )
    manifest = paths.generator(params.study, name) / "manifest.json"
    if not manifest.is_file():
        raise UserError(f"{manifest.parent}: {name} is not fine-tuned yet; run: dvc repro finetune@{name}")
    real = ImageSet.open(paths.real(params.study))
    train = fine_tuning_pairs(params.study, params.seed, name, params.generators[name], real)
    if files.read_json(manifest)["fingerprint"] != fingerprint(params, name, train):
        raise UserError(
            f"{manifest.parent} was trained with other parameters, data or base than the current ones, so its card"
            " would be"
            f" wrong; run: dvc repro finetune@{name}"
        )
    return train


def _check_target(target: Path, record: dict[str, Any]) -> None:
    """Raise UserError unless `target` is free, empty, or an older export of the same entry."""
    if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
        return
    old = _record_in(target)
    if old is not None and all(old.get(key) == record[key] for key in ("study", "generator")):
        _check_unchanged(target)
        return
    whose = (
        "no export of a generator" if old is None else f"an export of {old['generator']} of the study {old['study']}"
    )
    raise UserError(f"{target} already exists and is {whose}; remove it, or name another folder with --to")


def _check_unchanged(target: Path) -> None:
    """Raise UserError where an older export has files that it did not write, or that were changed since."""
    seal = target / files.SEAL
    written = set(files.read_json(seal)) if seal.is_file() else set()
    present = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_symlink() or path.is_file()}
    own = sorted(present - written - {files.SEAL}) or [
        path.relative_to(target).as_posix() for path in files.damaged(target) if path.exists()
    ]
    if own:
        raise UserError(
            f"{target} holds {', '.join(own[:3])}{', ...' if len(own) > 3 else ''}, which the export did not write or"
            " somebody changed; move it away, or name another folder with --to"
        )


def _record_in(folder: Path) -> dict[str, Any] | None:
    """Return the record of an older export; None where the folder is not one."""
    try:
        record = files.read_json(folder / RECORD)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and {"study", "generator"} <= record.keys() else None


def _write(params: Params, name: str, train: ImageSet, work: Path) -> None:
    runtime = Runtime.alone(params.threads, torch.device("cpu"))
    model = generator.build(params.study, params.seed, name, params.generators[name], train.spec, runtime)
    assert isinstance(model, ControlledDiffusion)  # METHODS are
    model.load(paths.generator(params.study, name))
    settings = params.generate
    sampling = Sampling(settings.steps, settings.guidance_scale, sampler=settings.sampler)
    pipeline_folder.write(work, model.model, model.network, scheduler_of(model.model.scheduler, sampling))
    summary = generator_card.gather(params, name, train, pipeline_folder.is_dense(model.network))
    generator_card.write(work, summary)
