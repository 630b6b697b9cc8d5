"""Dice of a segmenter on validation images during training, for curves next to those of its losses."""

from dataclasses import dataclass, field

import numpy as np

from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import ImageSet
from pipeline.metrics.segmentation import overlap
from pipeline.segmentation.class_scores import ScoreRow
from pipeline.segmentation.params import Segment
from pipeline.segmentation.predicting import evenly_spaced, predict_set
from pipeline.training.callbacks import Callback, Monitoring

COLUMNS = ("segmenter", "training_set", "seed", "step", "n", "dice")


@dataclass(frozen=True)
class Convergence:
    """Validation images on which a training is evaluated every segment.watch_every steps, and the results."""

    images: ImageSet
    segment: Segment
    rows: list[ScoreRow] = field(default_factory=list)  # step, n, dice

    def monitoring(self, segmenter: Segmenter) -> Monitoring:
        """Return the callback for `fit`; none where segment.watch_every is not set."""
        if self.segment.watch_every is None:
            return Monitoring()
        images = evenly_spaced(self.images, self.segment.watch_images)

        def evaluate(step: int) -> None:
            dice = mean_dice(segmenter, images, self.segment)
            self.rows.append({"step": step, "n": len(images), "dice": round(dice, 6)})

        return Monitoring((Callback(self.segment.watch_every, evaluate, self.rows),))


def mean_dice(segmenter: Segmenter, images: ImageSet, segment: Segment) -> float:
    """Return the mean Dice over images and foreground classes, of the most probable class at the training size."""
    predictions = zip(images, predict_set(segmenter, images, segment), strict=True)
    classes = images.spec.num_classes
    return float(
        np.mean(
            [overlap.mean_dice(samples.mean(0).argmax(0), images.mask(row), classes) for row, samples in predictions]
        )
    )
