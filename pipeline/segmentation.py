"""Train one segmenter, score it per image, and keep the judge: the segmenter of real images only."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import files, paths, plugins, seeding, tracking
from pipeline.contracts import Recipe, Segmenter
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Mixture, Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.errors import UserError
from pipeline.metrics import overlap
from pipeline.params import Params
from pipeline.runtime import Runtime
from pipeline.training import fit

METHOD_VERSION = 1  # raise it when the same parameters give other results
Row = dict[str, Any]


def threads(params: Params) -> int:
    """Threads of each process that trains segmenters."""
    return params.segment.threads or params.threads


def settings(params: Params, name: str) -> dict[str, Any]:
    """What identifies the training of one segmenter, beside its images and its random stream."""
    own = params.segment_for(name).model_dump(exclude={"seeds"})
    return own | {"threads": threads(params), "version": METHOD_VERSION}


def build_segmenter(params: Params, name: str, spec: DatasetSpec) -> Segmenter:
    """The untrained segmenter of one entry of `segmenters`; its new weights come from torch's global stream."""
    entry = params.segmenters[name]
    method = entry.method or name
    own = plugins.read_params("segmenters", method, entry.own, f"segmenters.{name}")
    return plugins.load("segmenters", method).build(own, spec)


def train_segmenter(
    params: Params,
    name: str,
    train: ImageSet,
    stream: str,
    runtime: Runtime,
    title: str = "",
    synthetic_share: float | None = None,
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
    augment, mixed = segmenter.augment(train), mixture(train, synthetic_share)
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
    )
    return segmenter, fit(segmenter.objective, batches, recipe, runtime, title=title)


def with_all_classes(pairs: Pairs, spec: DatasetSpec) -> Pairs:
    """The same pairs. Raises UserError where a class is in none of their masks."""
    absent = [label for label in range(spec.num_classes) if not (pairs.mask == label).any()]
    if absent:
        raise UserError(
            f"{spec.name}: of the classes 0 to {spec.num_classes - 1} (0: background) none of {len(pairs)} training"
            f" masks shows {', '.join(map(str, absent))}; check the masks and data.num_classes, or use more images"
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


def predict_set(segmenter: Segmenter, images: ImageSet, batch_size: int) -> Iterator[NDArray[np.uint8]]:
    """Label maps [H, W] in the order of the rows: the class with the highest mean probability."""
    for start in range(0, len(images), batch_size):
        rows = images.rows[start : start + batch_size]
        image = torch.from_numpy(np.stack([images.image(row) for row in rows])).float() / 255
        chance = segmenter.predict(image).mean(1)
        yield from chance.argmax(1).to(torch.uint8).cpu().numpy()


def score_set(segmenter: Segmenter, images: ImageSet, batch_size: int) -> list[Row]:
    """One row per image: split, test_set (its source), image, area (share of foreground), Dice and IoU."""
    labels = predict_set(segmenter, images, batch_size)
    return [
        {"split": row["split"], "test_set": row["source"], "image": row["id"]}
        | image_scores(found, images.mask(row), images.spec.num_classes)
        for row, found in zip(images, labels, strict=True)
    ]


def image_scores(found: NDArray[np.uint8], true: NDArray[np.uint8], num_classes: int) -> Row:
    """Dice and IoU of one label map, averaged over the foreground classes; each class too where there are several."""
    pair = overlap.foreground(found, num_classes), overlap.foreground(true, num_classes)
    dice, iou = overlap.dice(*pair), overlap.iou(*pair)
    scores = {"area": float((true > 0).mean()), "dice": float(dice.mean()), "iou": float(iou.mean())}
    if num_classes > 2:
        scores |= {f"dice_{label}": float(value) for label, value in enumerate(dice, start=1)}
        scores |= {f"iou_{label}": float(value) for label, value in enumerate(iou, start=1)}
    return {name: round(value, 6) for name, value in scores.items()}


def train_judge(params: Params, runtime: Runtime) -> None:
    """Trains the judge on the real training images, scores it on the real test images and publishes it."""
    if not runtime.is_main:
        return
    real, name = ImageSet.open(paths.real(params.study)), params.judge.segmenter
    stream, steps = f"judge/{params.seed}", params.judge.max_steps
    if steps is not None:
        params = with_steps(params, name, steps)
    alone = Runtime.alone(threads(params), runtime.device)
    segmenter, losses = train_segmenter(params, name, real.split("train"), stream, alone, "judge")
    rows = score_set(segmenter, real.split("test"), params.segment.batch_size)
    folder = paths.work("judge", files.fingerprint(settings(params, name), real.digest, dict(segmenter.about), stream))
    segmenter.save(folder)
    tracking.write_table(folder / "losses.csv", [{"step": step} | row for step, row in enumerate(losses)])
    tracking.write_table(folder / "scores.csv", rows)
    means = {key: float(np.mean([row[key] for row in rows])) for key in ("dice", "iou")}
    tracking.write_metrics(folder / "metrics.json", means | {"n": len(rows)})
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
    judge.load(paths.judge(study))
    return judge
