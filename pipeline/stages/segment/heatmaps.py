"""Pictures of where a segmenter looks, for segmenters with a method `heatmaps` (Grad-CAM of their encoder)."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files
from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import ImageSet, png
from pipeline.segmentation.params import Segment
from pipeline.segmentation.scoring import batches, sample_set, spread

Pixels = NDArray[np.uint8]
GAP, PAPER = 2, 160  # pixels between cells, and their grey
STOPS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)], float)  # of 0 .. 1
STRENGTH = 0.6  # of the colours on the image


def write_heatmaps(segmenter: Segmenter, images: ImageSet, chosen: Segment, folder: Path) -> None:
    """Writes one PNG for each of segment.heatmap_images test images, evenly spread: image, masks, heatmap."""
    look = getattr(segmenter, "heatmaps", None)
    if look is None or not chosen.heatmap_images or images.spec.ndim == 3:
        return
    few = spread(images, chosen.heatmap_images)
    heats = (heat for image in batches(few, chosen.batch_size) for heat in look(image).float().cpu().numpy())
    for row, heat, samples in zip(few, heats, sample_set(segmenter, few, chosen), strict=True):
        found = samples.mean(0).argmax(0).astype(np.uint8)
        drawn = picture(np.asarray(images.image(row), np.uint8), images.mask(row), found, heat)
        files.write_bytes(folder / f"{row['id']}.png", png(drawn))


def picture(image: Pixels, true: Pixels, found: Pixels, heat: NDArray[np.float32]) -> Pixels:
    """[H, W', 3]: image [C, H, W], true labels [H, W], found ones, and the heatmap [H, W] in [0, 1] on the image."""
    shown = np.moveaxis(image, 0, -1) if len(image) == 3 else image[0][..., None].repeat(3, -1)
    masks = [(255 * (labels > 0)).astype(np.uint8)[..., None].repeat(3, -1) for labels in (true, found)]
    hot = ((1 - STRENGTH) * shown + STRENGTH * coloured(heat)).round().astype(np.uint8)
    cells = [np.pad(cell, ((0, 0), (0, GAP), (0, 0)), constant_values=PAPER) for cell in (shown, *masks, hot)]
    return np.concatenate(cells, 1)[:, :-GAP]


def coloured(heat: NDArray[np.float32]) -> NDArray[np.float64]:
    """Values in [0, 1] as colours from dark to yellow [..., 3] in [0, 255], brighter for larger ones."""
    at = np.linspace(0, 1, len(STOPS))
    return np.stack([np.interp(heat, at, channel) for channel in STOPS.T], -1)
