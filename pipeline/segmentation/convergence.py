"""How a segmenter's Dice on validation images rises while it is trained, for curves beside those of its losses."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import ImageSet
from pipeline.metrics.segmentation import overlap
from pipeline.segmentation.params import Segment
from pipeline.segmentation.scoring import sample_set, spread
from pipeline.training.callbacks import Callback, Monitoring

Row = dict[str, Any]
COLUMNS = ("segmenter", "training_set", "seed", "step", "n", "dice")


@dataclass(frozen=True)
class Convergence:
    """Validation images that a training looks at every segment.watch_every steps, and what it found."""

    images: ImageSet
    segment: Segment
    rows: list[Row] = field(default_factory=list)  # step, n, dice

    def watch(self, segmenter: Segmenter) -> Monitoring:
        """What `fit` does beside training; nothing where segment.watch_every is not set."""
        if self.segment.watch_every is None:
            return Monitoring()
        few = spread(self.images, self.segment.watch_images)

        def look(step: int) -> None:
            self.rows.append({"step": step, "n": len(few), "dice": round(mean_dice(segmenter, few, self.segment), 6)})

        return Watch((Look(self.segment.watch_every, look),))


def mean_dice(segmenter: Segmenter, images: ImageSet, segment: Segment) -> float:
    """Dice over images and foreground classes, of the most likely class at the size of training."""
    found = zip(images, sample_set(segmenter, images, segment), strict=True)
    classes = images.spec.num_classes
    return float(
        np.mean([overlap.mean_dice(samples.mean(0).argmax(0), images.mask(row), classes) for row, samples in found])
    )
