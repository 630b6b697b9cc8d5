"""Where segmenters look: test images with their Grad-CAM heatmaps, where the stage segment kept them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import paths
from pipeline.data.mosaic import mosaic
from pipeline.stages.report import pictures

Pixels = NDArray[np.uint8]
GAP, WHITE = 2, 255  # pixels between pictures of a sheet, and their grey level


@dataclass(frozen=True)
class Heatmap:
    """A test image, its true mask, the predicted one, and the heatmap on it, side by side."""

    id: str
    picture: str  # data URI


def heatmaps(
    study: str, segmenters: Iterable[str], training_set: str, side: int = pictures.SIDE
) -> dict[str, list[Heatmap]]:
    """Return, by segmenter, its heatmaps of a few test images; {} where segment.heatmap_images is 0."""
    images = {name: list(_pictures(study, name, training_set)) for name in segmenters}
    return {
        name: [Heatmap(label, pictures.photo(pixels, side)) for label, pixels in labelled]
        for name, labelled in images.items()
        if labelled
    }


def sheets(study: str, segmenters: Iterable[str], training_set: str) -> dict[str, Pixels]:
    """Return all heatmaps of each segmenter below each other [H, W, 3], for papers, by the names of their files."""
    images = {name: [pixels for _, pixels in _pictures(study, name, training_set)] for name in segmenters}
    return {f"heatmaps_{name}": mosaic([[one] for one in rows], GAP, WHITE) for name, rows in images.items() if rows}


def _pictures(study: str, segmenter: str, training_set: str) -> Iterator[tuple[str, Pixels]]:
    folder = paths.segmentation(study, segmenter) / "heatmaps" / training_set
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            yield path.stem, np.asarray(picture.convert("RGB"))
