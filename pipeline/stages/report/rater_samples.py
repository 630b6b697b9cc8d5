"""What segmenters that draw leave for the report: Dice over sampling steps; raters above, samples below."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import paths, tables
from pipeline.data.mosaic import mosaic
from pipeline.stages.report import figures, pictures
from pipeline.stages.report.drawing import Drawing

Curves = dict[str, NDArray[np.float64]]  # by segmenter: Dice [seeds, steps]
GAP, WHITE = 12, 255  # pixels between pictures of a sheet, and their grey level


@dataclass(frozen=True)
class RaterSamples:
    """A test image with its raters' masks, and the samples of one segmenter below."""

    id: str
    picture: str  # data URI


def drawings(study: str, segmenters: Iterable[str]) -> Iterator[Drawing]:
    """Yield Dice over sampling steps, a figure per training set; none where no segmenter recorded its steps."""
    for training_set, curves in _curves(study, segmenters).items():
        yield figures.dice_over_sampling(training_set, curves)


def galleries(
    study: str, segmenters: Iterable[str], training_set: str, side: int = pictures.SIDE
) -> dict[str, list[RaterSamples]]:
    """Return, by segmenter, its samples on a few test images; {} where the data set has one rater."""
    images = {name: list(_pictures(study, name, training_set)) for name in segmenters}
    return {
        name: [RaterSamples(label, pictures.photo(pixels, 2 * side)) for label, pixels in labelled]
        for name, labelled in images.items()
        if labelled
    }


def sheet(study: str, segmenter: str, training_set: str) -> NDArray[np.uint8] | None:
    """Return [H, W, 3] all pictures of one segmenter below each other, for papers; None where it has none."""
    images = [pixels for _, pixels in _pictures(study, segmenter, training_set)]
    return mosaic([[one] for one in images], GAP, WHITE) if images else None


def _pictures(study: str, segmenter: str, training_set: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    folder = paths.segmentation(study, segmenter) / "samples" / training_set
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            yield path.stem, np.asarray(picture.convert("RGB"))


def _curves(study: str, segmenters: Iterable[str]) -> dict[str, Curves]:
    """Return the curves by training set and segmenter, in the order of params.yaml."""
    curves: dict[str, Curves] = {}
    for segmenter in segmenters:
        path = paths.segmentation(study, segmenter) / "steps.csv"
        arms: dict[str, dict[str, list[float]]] = {}
        for row in tables.read_table(path) if path.is_file() else ():
            arms.setdefault(row["training_set"], {}).setdefault(row["seed"], []).append(float(row["dice"]))
        for training_set, seeds in arms.items():
            curves.setdefault(training_set, {})[segmenter] = np.array(list(seeds.values()))
    return curves
