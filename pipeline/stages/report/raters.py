"""What segmenters that draw leave for the report: Dice over sampling steps; raters above, samples below."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core import paths, tables
from pipeline.stages.report import figures, pictures
from pipeline.stages.report.drawing import Drawing
from pipeline.study import Params

Curves = dict[str, NDArray[np.float64]]  # by segmenter: Dice [seeds, steps]


@dataclass(frozen=True)
class Drawn:
    """A test image with its raters' masks, and the samples of one segmenter below."""

    id: str
    picture: str  # data URI


def steps(params: Params) -> Iterator[Drawing]:
    """Dice over sampling steps, a figure per training set; none where no segmenter tells its steps."""
    for training_set, curves in _curves(params).items():
        yield figures.dice_over_sampling(training_set, curves)


def galleries(params: Params, side: int = pictures.SIDE) -> dict[str, list[Drawn]]:
    """By segmenter, its samples on a few test images; none where the data set has one rater."""
    found = {name: list(_sheets(params, name)) for name in params.segmenters}
    return {
        name: [Drawn(label, pictures.photo(sheet, 2 * side)) for label, sheet in sheets]
        for name, sheets in found.items()
        if sheets
    }


def sheet(params: Params, segmenter: str) -> NDArray[np.uint8] | None:
    """[H, W, 3] all pictures of one segmenter below each other, for papers; None where it has none."""
    sheets = [
        np.pad(pixels, ((0, 12), (0, 0), (0, 0)), constant_values=255) for _, pixels in _sheets(params, segmenter)
    ]
    return np.concatenate(sheets)[:-12] if sheets else None


def _sheets(params: Params, segmenter: str) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    folder = paths.segmentation(params.study, segmenter) / "samples" / params.compared_on
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as picture:
            yield path.stem, np.asarray(picture.convert("RGB"))


def _curves(params: Params) -> dict[str, Curves]:
    """By training set and segmenter, in the order of params.yaml."""
    found: dict[str, Curves] = {}
    for segmenter in params.segmenters:
        path = paths.segmentation(params.study, segmenter) / "steps.csv"
        arms: dict[str, dict[str, list[float]]] = {}
        for row in tables.read_table(path) if path.is_file() else ():
            arms.setdefault(row["training_set"], {}).setdefault(row["seed"], []).append(float(row["dice"]))
        for training_set, seeds in arms.items():
            found.setdefault(training_set, {})[segmenter] = np.array(list(seeds.values()))
    return found
