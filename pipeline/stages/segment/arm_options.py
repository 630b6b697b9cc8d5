"""How one arm is trained beside its images: steps, phases, augmentation, unlabelled images; and its fingerprint."""

from typing import Any

from pipeline.core import paths
from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.segmentation import ignored_pixels, mean_teacher, strong_augmentation
from pipeline.segmentation.params import Segment
from pipeline.segmentation.train import TrainingOptions
from pipeline.stages.mix.params import TrainingSet


def training_options(study: str, name: str, arm: TrainingSet, segment: Segment, images: int) -> TrainingOptions:
    """Return the options of trainings on the set `name` with so many images.

    Raises UserError where a phase would have zero steps, or where no unlabelled images are there to learn from.
    """
    steps = arm.total_steps(segment.steps(images))
    try:
        pretrain_steps = arm.pretraining_steps(steps)
    except ValueError as error:
        raise UserError(f"params.yaml: training_sets.{name}: {error}") from None
    return TrainingOptions(
        max_steps=steps,
        synthetic_share=arm.synthetic_share,
        synthetic_until=arm.synthetic_until,
        pretrain_steps=pretrain_steps,
        augment=arm.augment,
        unlabelled=_unlabelled_images(study, name) if arm.unlabelled == "mean_teacher" else None,
        pseudo_share=arm.pseudo_share,
    )


def options_identity(arm: TrainingSet, segment: Segment, options: TrainingOptions) -> list[Any]:
    """Return what the options add to the fingerprint of a cell: nothing where an arm asks for none."""
    identity: list[Any] = [] if arm.synthetic_share is None else [arm.synthetic_share]
    chosen = arm.model_dump(include={"synthetic_until", "phase", "steps", "pseudo_share"}, exclude_defaults=True)
    if arm.augment not in (None, segment.augment):
        chosen["augment"] = arm.augment
    if options.unlabelled is not None:
        chosen["unlabelled"] = [arm.unlabelled, [row["sha256"] for row in options.unlabelled]]
    return [*identity, chosen] if chosen else identity


def check_options(options: TrainingOptions, segment: Segment, segmenter: Segmenter, train: ImageSet) -> None:
    """Raise UserError where a segmenter cannot be trained with these options, or on these images."""
    ignored_pixels.check_rows(segmenter, train)
    if (options.augment or segment.augment) == "strong":
        strong_augmentation.check(train.spec)
    if options.unlabelled is not None:
        mean_teacher.check(segmenter)


def _unlabelled_images(study: str, name: str) -> ImageSet:
    images = ImageSet.open(paths.unlabelled(study))
    if not len(images):
        raise UserError(
            f"training_sets.{name}.unlabelled needs images without masks, and {images.folder} holds none; set"
            " data.unlabelled"
        )
    return images
