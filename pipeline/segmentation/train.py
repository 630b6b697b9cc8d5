"""Train one segmenter on an image set."""

from dataclasses import dataclass
from typing import Any

from pipeline.core import seeding
from pipeline.core.contracts import Recipe, Segmenter
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Mixture, Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.convergence import Convergence
from pipeline.segmentation.params import Segment, SegmenterEntry
from pipeline.training.callbacks import Monitoring
from pipeline.training.loop import fit

METHOD_VERSION = 2  # raise it when the same parameters give other results


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


def train_segmenter(
    name: str,
    entry: SegmenterEntry,
    segment: Segment,
    train: ImageSet,
    stream: str,
    runtime: Runtime,
    options: TrainingOptions = TrainingOptions(),
) -> tuple[Segmenter, list[dict[str, float]]]:
    """Train on all rows of `train`; return the segmenter after the last step, and the losses of every step.

    `segment` has the overrides of the entry. Initial weights, order and augmentation (the segmenter's own) depend on
    `stream` alone: arms with the same seed start alike.
    """
    seeding.seed_everything(stream, "weights")
    segmenter = build_segmenter(name, entry, train.spec)
    if segment.encoder_rate != 1:
        segmenter.scale_encoder_rate(segment.encoder_rate)
    augment, mixed = segmenter.augment(train), mixture(train, options.synthetic_share)
    batches = Batches(check_classes(Pairs.read(train), train.spec), segment.batch_size, stream, augment, mixed)
    recipe = Recipe(
        max_steps=segment.steps(len(train)),
        learning_rate=segment.learning_rate,
        weight_decay=segment.weight_decay,
        schedule=segment.schedule,
        milestones=segment.milestones,
        max_grad_value=segment.max_grad_value,
        precision=segment.precision,
        optimizer=segment.optimizer,
        betas=segment.betas,
        ema_decay=segment.ema_decay,
    )
    convergence = options.convergence
    monitoring = Monitoring() if convergence is None else convergence.monitoring(segmenter)
    losses = fit(segmenter.objective, batches, recipe, runtime, title=options.title, monitoring=monitoring)
    return segmenter, losses


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


def mixture(train: ImageSet, synthetic_share: float | None) -> Mixture | None:
    """Group real and synthetic images so that this share of every batch is synthetic; None for no fixed share."""
    if synthetic_share is None:
        return None
    groups: tuple[list[int], list[int]] = ([], [])
    for index, row in enumerate(train):
        groups[row["synthetic"]].append(index)
    return Mixture(tuple(groups[0]), tuple(groups[1]), synthetic_share)
