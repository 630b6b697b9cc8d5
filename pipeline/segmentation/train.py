"""Train one segmenter on an image set."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pipeline.core import seeding
from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.core.recipes import EMAWarmUpRecipe, PlateauRecipe, Recipe, WarmUpRecipe
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Augment, Batches, Pairs
from pipeline.data.mixtures import FallingShare, FixedShare, Mixture, OneAfterTheOther
from pipeline.data.pseudo_labels import is_pseudo_labelled
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation import ignored_pixels, strong_augmentation
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.convergence import Convergence
from pipeline.segmentation.mean_teacher import MeanTeacher
from pipeline.segmentation.params import Plateau, Segment, SegmenterEntry
from pipeline.segmentation.selecting import Looks
from pipeline.training.callbacks import Monitoring
from pipeline.training.loop import fit

METHOD_VERSION = 3  # raise it when the same parameters give other results


def training_identity(segment: Segment, threads: int) -> dict[str, Any]:
    """Return what identifies a training, beside the segmenter, its images and its random stream.

    `segment` has the overrides of the segmenter's entry, `threads` is the number per process.
    """
    return segment.training_settings() | {"threads": threads, "version": METHOD_VERSION}


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a single training."""

    title: str = ""  # of the progress bar
    synthetic_share: float | None = None  # of every batch; None: in proportion to the numbers of images
    convergence: Convergence | None = None  # evaluates on validation images during training; changes no weight
    max_steps: int | None = None  # optimiser steps; None: as the section segment says
    synthetic_until: float | None = None  # share of the training at which synthetic_share has fallen to 0
    pseudo_share: float | None = None  # of images with pseudo-labels in every batch; None: like other real images
    pretrain_steps: int = 0  # optimiser steps on synthetic images alone, before the others on real ones alone
    augment: Literal["own", "strong"] | None = None  # None: as the section segment says
    unlabelled: ImageSet | None = None  # images that a mean teacher labels
    looks: Looks | None = None  # at validation images; segment.select: best needs them
    folder: Path | None = None  # of checkpoints, where segment.checkpoint_every asks for some
    identity: str = ""  # of the training, in its checkpoints


def train_segmenter(
    name: str,
    entry: SegmenterEntry,
    segment: Segment,
    train: ImageSet,
    stream: str,
    runtime: Runtime,
    options: TrainingOptions = TrainingOptions(),
) -> tuple[Segmenter, list[dict[str, float]]]:
    """Train on all rows of `train`; return the segmenter and the losses of every step.

    The segmenter has the weights after the last step or, with segment.select `best`, those of the highest Dice on the
    validation images of options.looks. `segment` has the overrides of the entry. Initial weights, order and
    augmentation (the segmenter's own) depend on `stream` alone: arms with the same seed start alike.
    """
    seeding.seed_everything(stream, "weights")
    segmenter = build_segmenter(name, entry, train.spec)
    if segment.encoder_rate != 1:
        segmenter.scale_encoder_rate(segment.encoder_rate)
    steps = options.max_steps or segment.steps(len(train))
    augment, mixed = (
        augmentation(segmenter, segment, train, options),
        mixture(train, options, segment.batch_size, steps),
    )
    pairs = check_classes(Pairs.read(train), train.spec)
    ignored_pixels.check(segmenter, train, pairs)
    batches = Batches(pairs, segment.batch_size, stream, augment, mixed)
    convergence = options.convergence
    monitoring = Monitoring() if convergence is None else convergence.monitoring(segmenter)
    objective = segmenter.objective
    if options.unlabelled is not None:
        objective = MeanTeacher(segmenter, Pairs.read_images(options.unlabelled), augment, steps)
    if segment.select == "best":
        assert options.looks is not None
        monitoring = replace(monitoring, selection=options.looks.selection(segmenter, segment))
    recipe = recipe_of(segment, steps, options.identity)
    return segmenter, fit(objective, batches, recipe, runtime, options.folder, options.title, monitoring)


def recipe_of(segment: Segment, steps: int, identity: str) -> Recipe:
    """Return the recipe of a training of so many steps."""
    plateau = segment.plateau or Plateau()
    return Recipe(
        max_steps=steps,
        learning_rate=segment.learning_rate,
        weight_decay=segment.weight_decay,
        schedule=segment.schedule,
        milestones=segment.milestones,
        max_grad_value=segment.max_grad_value,
        max_grad_norm=segment.max_grad_norm,
        precision=segment.precision,
        checkpoint_every=segment.checkpoint_every,
        identity=identity,
        optimizer=segment.optimizer,
        betas=segment.betas,
        ema_decay=segment.ema_decay,
        ema_warmup=ema_warmup_of(segment),
        warm_up=None if segment.warm_up is None else WarmUpRecipe(**dict(segment.warm_up)),
        plateau=PlateauRecipe(**dict(plateau)) if segment.schedule == "plateau" else None,
    )


def ema_warmup_of(segment: Segment) -> Literal["ramp", "none"] | EMAWarmUpRecipe:
    """Return how the decay of the moving average grows."""
    warmup = segment.ema_warmup
    return warmup if isinstance(warmup, str) else EMAWarmUpRecipe(**dict(warmup))


def check_classes(pairs: Pairs, spec: DatasetSpec) -> Pairs:
    """Return the pairs unchanged. Raises UserError where a class is in none of their masks."""
    masks = pairs.mask if pairs.masks is None else pairs.masks
    absent = set(range(spec.num_classes))
    for mask in masks:  # one by one: all at once they may not fit into memory
        absent -= set(mask.unique().tolist())
        if not absent:
            break
    if absent:
        labels = ", ".join(map(str, sorted(absent)))
        raise UserError(
            f"{spec.name}: of the classes 0 to {spec.num_classes - 1} (0: background) none of {len(pairs)} training"
            f" masks shows {labels}; check the masks and data.num_classes, or use more images"
        )
    return pairs


def augmentation(segmenter: Segmenter, segment: Segment, train: ImageSet, options: TrainingOptions) -> Augment | None:
    """Return the segmenter's own random augmentation, followed by the strong one where it is asked for."""
    own = segmenter.augment(train)
    if (options.augment or segment.augment) == "own":
        return own
    strong_augmentation.check(train.spec)
    return strong_augmentation.after(own)


def mixture(train: ImageSet, options: TrainingOptions, batch_size: int, steps: int) -> Mixture | None:
    """Group real and synthetic images by the options of a training of so many steps; None for no fixed share."""
    if options.pseudo_share is not None:
        return mixture_with_pseudo_labels(train, options.pseudo_share, options.synthetic_share)
    if options.synthetic_share is None and not options.pretrain_steps:
        return None
    groups: tuple[list[int], list[int]] = ([], [])
    for index, row in enumerate(train):
        groups[row["synthetic"]].append(index)
    real, synthetic = map(tuple, groups)
    if options.synthetic_share is None:
        return OneAfterTheOther(real, synthetic, options.pretrain_steps * batch_size)
    if options.synthetic_until is None:
        return FixedShare(real, synthetic, options.synthetic_share)
    return FallingShare(real, synthetic, options.synthetic_share, round(options.synthetic_until * steps * batch_size))


def mixture_with_pseudo_labels(train: ImageSet, pseudo_share: float, synthetic_share: float | None) -> Mixture:
    """Group training pairs, images with pseudo-labels and, where they have a share, synthetic images."""
    pairs, pseudo, synthetic = [], [], []
    for index, row in enumerate(train):
        group = synthetic if row["synthetic"] else pseudo if is_pseudo_labelled(row) else pairs
        group.append(index)
    if synthetic_share is None:
        return FixedShare(tuple(pairs), tuple(pseudo), pseudo_share)
    share = pseudo_share + synthetic_share
    return FixedShare(tuple(pairs), FixedShare(tuple(synthetic), tuple(pseudo), pseudo_share / share), share)
