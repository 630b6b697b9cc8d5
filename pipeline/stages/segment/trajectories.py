"""Dice over the sampling steps of segmenters that denoise: how the answer forms, or decays, from step to step."""

from typing import Any

import numpy as np

from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import ImageSet
from pipeline.metrics.segmentation import overlap
from pipeline.segmentation.params import Segment
from pipeline.segmentation.scoring import batches, spread

Row = dict[str, Any]
TOGETHER = 8  # images, at most, whose maps of all steps are held at once
COLUMNS = ("segmenter", "training_set", "seed", "step", "n", "dice")


def dice_over_steps(segmenter: Segmenter, images: ImageSet, chosen: Segment) -> list[Row]:
    """step (1, 2 ...), n and dice: the mean over images, and over foreground classes, after each sampling step.

    Nothing for a segmenter without a method `trajectory`. Of many images segment.trajectory_images, evenly spread.
    """
    follow = getattr(segmenter, "trajectory", None)
    if follow is None:
        return []
    few = spread(images, chosen.trajectory_images)
    images_of = batches(few, min(chosen.batch_size, TOGETHER))
    labels = (steps for image in images_of for steps in follow(image).argmax(2).cpu().numpy().swapaxes(0, 1))
    found = [
        [overlap.mean_dice(one, few.mask(row), few.spec.num_classes) for one in steps]
        for steps, row in zip(labels, few, strict=True)
    ]
    means = np.mean(found, axis=0)
    return [{"step": step, "n": len(few), "dice": round(float(dice), 6)} for step, dice in enumerate(means, 1)]
