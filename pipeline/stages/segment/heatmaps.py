"""Pictures of what a segmenter attends to, for segmenters with a method `heatmaps` (Grad-CAM of their encoder)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files
from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import ImageSet, png
from pipeline.data.mosaic import mosaic
from pipeline.segmentation.params import Segment
from pipeline.segmentation.predicting import evenly_spaced, image_batches, predict_set
from pipeline.stages.segment.rgb import BACKGROUND, GAP, Pixels, gray_to_rgb, to_rgb

COLOR_STOPS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], float)  # of 0 .. 1
OPACITY = 0.6  # of the colours on the image


def write_heatmaps(segmenter: Segmenter, images: ImageSet, segment: Segment, folder: Path) -> None:
    """Write one PNG for each of segment.heatmap_images test images, evenly spaced: image, masks, heatmap."""
    heatmaps = getattr(segmenter, "heatmaps", None)
    if heatmaps is None or not segment.heatmap_images or images.spec.ndim == 3:
        return
    shown = evenly_spaced(images, segment.heatmap_images)
    batches = image_batches(shown, segment.batch_size)
    heats = (heat for image in batches for heat in heatmaps(image).float().cpu().numpy())
    for row, heat, samples in zip(shown, heats, predict_set(segmenter, shown, segment), strict=True):
        predicted = samples.mean(0).argmax(0).astype(np.uint8)
        drawn = picture(np.asarray(images.image(row), np.uint8), images.mask(row), predicted, heat)
        files.write_bytes(folder / f"{row['id']}.png", png(drawn))


def picture(image: Pixels, true: Pixels, predicted: Pixels, heat: NDArray[np.float32]) -> Pixels:
    """Return [H, W', 3]: image [C, H, W], true labels [H, W], predicted ones, and the heatmap on the image.

    The heatmap [H, W] is in [0, 1].
    """
    shown = to_rgb(image)
    masks = [gray_to_rgb((labels > 0).astype(float)) for labels in (true, predicted)]
    overlaid = ((1 - OPACITY) * shown + OPACITY * colorize(heat)).round().astype(np.uint8)
    return mosaic([[shown, *masks, overlaid]], GAP, BACKGROUND)


def colorize(heat: NDArray[np.float32]) -> NDArray[np.float64]:
    """Map values in [0, 1] to colours from dark to yellow [..., 3] in [0, 255], brighter for larger ones."""
    positions = np.linspace(0, 1, len(COLOR_STOPS))
    return np.stack([np.interp(heat, positions, channel) for channel in COLOR_STOPS.T], -1)
