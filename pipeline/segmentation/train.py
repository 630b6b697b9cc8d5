"""Train one segmenter, and keep the judge: the segmenter of real images only."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core import files, paths, plugins, seeding, tables
from pipeline.core.contracts import Recipe, Segmenter
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Mixture, Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation.convergence import Convergence
from pipeline.segmentation.scoring import score_set
from pipeline.study import Params
from pipeline.training.callbacks import Watch
from pipeline.training.loop import fit

METHOD_VERSION = 2  # raise it when the same parameters give other results
SCORING = {"resolution", "nsd_tolerance", "spacing"}  # parameters of section segment that training does not see
SUMMARY = {"seeds", "keep", "unseen", "small_lesion"}  # nor do scores see these
FURTHER = {  # nor does training see these; scores do, and finished cells keep their names where they have the defaults
    "num_samples",
    "level_sets",
    "nsd_tolerance_mm",
    "empty_truth",
    "pair_rule",
    "pooled",
    "region_size",
    "trajectory_images",
    "watch_every",
    "watch_images",
    "heatmap_images",
}
RECIPE = {"betas", "ema_decay"}  # of training; they came later, and settings without them keep their fingerprint


def threads(params: Params) -> int:
    """Threads of each process that trains segmenters."""
    return params.segment.threads or params.threads


def settings(params: Params, name: str) -> dict[str, Any]:
    """What identifies the training of one segmenter, beside its images and its random stream."""
    chosen = params.segment_for(name)
    own = chosen.model_dump(exclude=SCORING | SUMMARY | FURTHER | RECIPE)
    own |= chosen.model_dump(include=RECIPE, exclude_defaults=True)
    return own | {"threads": threads(params), "version": METHOD_VERSION}


def scoring(params: Params, name: str) -> dict[str, Any]:
    """What else identifies the scores of a trained segmenter."""
    chosen = params.segment_for(name)
    return chosen.model_dump(include=SCORING) | chosen.model_dump(include=FURTHER, exclude_defaults=True)


def build_segmenter(params: Params, name: str, spec: DatasetSpec) -> Segmenter:
    """The untrained segmenter of one entry of `segmenters`; its new weights come from torch's global stream."""
    entry = params.segmenters[name]
    method = entry.method or name
    own = plugins.read_params("segmenters", method, entry.own, f"segmenters.{name}")
    return plugins.load("segmenters", method).build(own, spec)


@dataclass(frozen=True)
class Course:
    """What one training has of its own, beside its images and its random stream."""

    title: str = ""
    synthetic_share: float | None = None  # of every batch; None: as the images are counted
    convergence: Convergence | None = None  # looks at validation images on the way, which changes no weight


def train_segmenter(
    params: Params,
    name: str,
    train: ImageSet,
    stream: str,
    runtime: Runtime,
    course: Course = Course(),
) -> tuple[Segmenter, list[dict[str, float]]]:
    """Trains on all rows of `train` and returns the segmenter after the last step, and the losses of every step.

    Initial weights, order and augmentation (the segmenter's own) depend on `stream` alone: arms with one seed start
    alike.
    """
    chosen = params.segment_for(name)
    seeding.seed_everything(stream, "weights")
    segmenter = build_segmenter(params, name, train.spec)
    if chosen.encoder_rate != 1:
        segmenter.scale_encoder_rate(chosen.encoder_rate)
    augment, mixed = segmenter.augment(train), mixture(train, course.synthetic_share)
    batches = Batches(with_all_classes(Pairs.read(train), train.spec), chosen.batch_size, stream, augment, mixed)
    recipe = Recipe(
        max_steps=chosen.steps(len(train)),
        learning_rate=chosen.learning_rate,
        weight_decay=chosen.weight_decay,
        schedule=chosen.schedule,
        milestones=chosen.milestones,
        max_grad_value=chosen.max_grad_value,
        precision=chosen.precision,
        optimizer=chosen.optimizer,
        betas=chosen.betas,
        ema_decay=chosen.ema_decay,
    )
    watch = Watch() if course.convergence is None else course.convergence.watch(segmenter)
    return segmenter, fit(segmenter.objective, batches, recipe, runtime, title=course.title, watch=watch)


def with_all_classes(pairs: Pairs, spec: DatasetSpec) -> Pairs:
    """The same pairs. Raises UserError where a class is in none of their masks."""
    masks = pairs.mask if pairs.masks is None else pairs.masks
    absent = set(range(spec.num_classes))
    for mask in masks:  # one by one: all at once they may not fit into memory
        absent -= set(mask.unique().tolist())
        if not absent:
            break
    if absent:
        told = ", ".join(map(str, sorted(absent)))
        raise UserError(
            f"{spec.name}: of the classes 0 to {spec.num_classes - 1} (0: background) none of {len(pairs)} training"
            f" masks shows {told}; check the masks and data.num_classes, or use more images"
        )
    return pairs


def mixture(train: ImageSet, synthetic_share: float | None) -> Mixture | None:
    """Real and synthetic images of a set, so that every batch holds this share of synthetic ones."""
    if synthetic_share is None:
        return None
    groups: tuple[list[int], list[int]] = ([], [])
    for place, row in enumerate(train):
        groups[row["synthetic"]].append(place)
    return Mixture(tuple(groups[0]), tuple(groups[1]), synthetic_share)


def train_judge(params: Params, runtime: Runtime) -> None:
    """Trains the judge on the real training images, scores it on the real test images and publishes it."""
    if not runtime.is_main:
        return
    real, name = ImageSet.open(paths.real(params.study)), params.judge.segmenter
    stream, steps = f"judge/{params.seed}", params.judge.max_steps
    if steps is not None:
        params = with_steps(params, name, steps)
    alone = Runtime.alone(threads(params), runtime.device)
    segmenter, losses = train_segmenter(params, name, real.split("train"), stream, alone, Course("judge"))
    at_training_size = params.segment_for(name).model_copy(update={"resolution": "training", "spacing": None})
    rows = score_set(segmenter, real.split("test"), at_training_size)
    folder = paths.work("judge", files.fingerprint(settings(params, name), real.digest, dict(segmenter.about), stream))
    segmenter.save(folder)
    tables.write_table(folder / "losses.csv", [{"step": step} | row for step, row in enumerate(losses)])
    tables.write_table(folder / "scores.csv", rows)
    means = {key: float(np.mean([row[key] for row in rows])) for key in ("dice", "iou")}
    tables.write_metrics(folder / "metrics.json", means | {"n": len(rows)})
    files.publish(folder, paths.judge(params.study))


def with_steps(params: Params, name: str, steps: int) -> Params:
    """The same study with so many optimiser steps of one segmenter."""
    entry = params.segmenters[name]
    own = {key: value for key, value in entry.segment.items() if key != "epochs"} | {"max_steps": steps}
    entries = {**params.segmenters, name: entry.model_copy(update={"segment": own})}
    return params.model_copy(update={"segmenters": entries})


def load_judge(study: str, params: Params, spec: DatasetSpec) -> Segmenter:
    """The trained judge of a study. Raises UserError where there is none for these parameters."""
    judge = build_segmenter(params, params.judge.segmenter, spec)
    files.check(paths.judge(study))
    judge.load(paths.judge(study))
    return judge
