"""Pictures of what several raters drew and what a segmenter samples: raters above, samples below."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files
from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import ImageSet, png
from pipeline.data.mosaic import mosaic
from pipeline.segmentation.params import Segment
from pipeline.segmentation.predicting import Probabilities, evenly_spaced, predict_set
from pipeline.segmentation.rater_scoring import sampled_labels
from pipeline.stages.segment.rgb import BACKGROUND, GAP, Pixels, gray_to_rgb, to_rgb

IMAGES = 6  # test images that are shown


def write_pictures(segmenter: Segmenter, images: ImageSet, segment: Segment, folder: Path) -> None:
    """Write one PNG per shown test image of a set of several raters; nothing for other sets and for volumes."""
    if images.spec.raters == 1 or images.spec.ndim == 3:
        return
    shown = evenly_spaced(images, IMAGES)
    for row, samples in zip(shown, predict_set(segmenter, shown, segment), strict=True):
        masks = images.masks(row), sampled_labels(samples, segment)
        drawn = picture(np.asarray(images.image(row), np.uint8), *masks, samples.mean(0))
        files.write_bytes(folder / f"{row['id']}.png", png(drawn))


def picture(image: Pixels, raters: Pixels, samples: NDArray[np.integer], probabilities: Probabilities) -> Pixels:
    """Return [H', W', 3]: the image [C, H, W] and the raters' masks [R, H, W]; below, foreground and the samples.

    `samples` are labels [S, H, W], `probabilities` their mean [K, H, W], shown as the probability of foreground.
    Classes are grey levels from black (background) to white.
    """
    highest = len(probabilities) - 1
    above = [to_rgb(image), *(gray_to_rgb(mask / highest) for mask in raters)]
    below = [gray_to_rgb(1 - probabilities[0]), *(gray_to_rgb(labels / highest) for labels in samples)]
    return mosaic([above, below], GAP, BACKGROUND)
