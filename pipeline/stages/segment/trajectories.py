"""Dice over the sampling steps of segmenters that denoise: how the prediction forms, or decays, from step to step."""

import numpy as np

from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import ImageSet
from pipeline.metrics.segmentation import overlap
from pipeline.segmentation.class_scores import ScoreRow
from pipeline.segmentation.params import Segment
from pipeline.segmentation.predicting import evenly_spaced, image_batches

MAX_BATCH = 8  # images, at most, whose maps of all steps are in memory at once
COLUMNS = ("segmenter", "training_set", "seed", "step", "n", "dice")


def dice_over_steps(segmenter: Segmenter, images: ImageSet, segment: Segment) -> list[ScoreRow]:
    """Return step (1, 2 ...), n and dice: the mean over images and foreground classes after each sampling step.

    Empty for a segmenter without a method `trajectory`. Of many images segment.trajectory_images are followed, evenly
    spaced.
    """
    trajectory = getattr(segmenter, "trajectory", None)
    if trajectory is None:
        return []
    followed = evenly_spaced(images, segment.trajectory_images)
    batches = image_batches(followed, min(segment.batch_size, MAX_BATCH))
    labels = (steps for image in batches for steps in trajectory(image).argmax(2).cpu().numpy().swapaxes(0, 1))
    dices = [
        [overlap.mean_dice(predicted, followed.mask(row), followed.spec.num_classes) for predicted in steps]
        for steps, row in zip(labels, followed, strict=True)
    ]
    means = np.mean(dices, axis=0)
    return [{"step": step, "n": len(followed), "dice": round(float(dice), 6)} for step, dice in enumerate(means, 1)]
