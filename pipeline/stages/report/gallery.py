"""The sample grid: masks, the real images that they come from, what each generator made of them; its best and worst."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths, tables
from pipeline.data.image_set import ImageSet, Row
from pipeline.stages.report import pictures
from pipeline.study import Params

EXTREMES = 4  # most and least faithful images shown per generator
CELL, GAP = 128, 4  # pixels of a picture of a sheet, and between pictures


@dataclass(frozen=True)
class Example:
    """One row of the grid, as data URIs."""

    id: str
    mask: str
    real: str | None  # None: the mask comes from no training image
    synthetic: str
    overlay: str


@dataclass(frozen=True)
class Faithful:
    """A synthetic image with the outline of its mask, and the judge's Dice."""

    id: str
    dice: float
    overlay: str


def examples(params: Params, side: int = pictures.SIDE) -> dict[str, list[Example]]:
    """Rows of the grid by generator; those that follow training masks, turned or not, show the same ones."""
    return {name: [_example(*parts, side) for parts in _rows(params, name)] for name in params.generators}


def extremes(params: Params, side: int = pictures.SIDE) -> dict[str, dict[str, list[Faithful]]]:
    """By generator, its "most faithful" and "least faithful" images; none where the judge has not looked."""
    found = {name: _ranked(params.study, name) for name in params.generators}
    return {
        name: {
            "most faithful": _faithful(params.study, name, ranked[::-1][:EXTREMES], side),
            "least faithful": _faithful(params.study, name, ranked[:EXTREMES], side),
        }
        for name, ranked in found.items()
        if ranked
    }


def sheet(params: Params, generator: str) -> NDArray[np.uint8]:
    """[H, W, 3] one example per column: mask, real image, synthetic image, overlay; for papers."""
    columns = [_column(mask, real, image) for _, mask, real, image in _rows(params, generator)]
    return np.concatenate(columns, axis=1)[GAP:, GAP:]


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` rows, evenly over all of them."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places]


Parts = tuple[str, NDArray[np.uint8], NDArray[np.uint8] | None, NDArray[np.uint8]]  # id, mask, real image, synthetic


def _rows(params: Params, generator: str) -> Iterator[Parts]:
    train = ImageSet.open(paths.real(params.study)).split("train")
    synthetic = ImageSet.open(paths.synthetic(params.study, generator))
    sources = {row["id"]: row for row in train}
    first: dict[str, Row] = {}
    for row in synthetic.take(1):
        first.setdefault(row["source_id"], row)
    rows = spread(train.rows, params.report.samples)
    followed = [first[row["id"]] for row in rows if row["id"] in first]
    for made in followed or spread(synthetic.take(1).rows, len(rows)):
        source = sources.get(made["source_id"])
        real = None if source is None else colours_last(train, source)
        yield made["source_id"], synthetic.mask(made), real, colours_last(synthetic, made)


def colours_last(images: ImageSet, row: Row) -> NDArray[np.uint8]:
    """An image of a set as [H, W, 3]."""
    return np.moveaxis(np.asarray(images.image(row), np.uint8), 0, -1)


def _example(
    name: str, mask: NDArray[np.uint8], real: NDArray[np.uint8] | None, image: NDArray[np.uint8], side: int
) -> Example:
    return Example(
        id=name,
        mask=pictures.uri(pictures.colours(pictures.enlarge(mask, side))),
        real=None if real is None else pictures.photo(real, side),
        synthetic=pictures.photo(image, side),
        overlay=pictures.overlaid(image, mask, side),
    )


def _ranked(study: str, generator: str) -> list[tuple[float, str]]:
    """Dice and id of the scored images, the least faithful first."""
    path = paths.scores(study, generator) / "images.csv"
    rows = tables.read_table(path) if path.is_file() else []
    return sorted((float(row["dice"]), row["id"]) for row in rows if row.get("dice"))


def _faithful(study: str, generator: str, chosen: Sequence[tuple[float, str]], side: int) -> list[Faithful]:
    images = ImageSet.open(paths.synthetic(study, generator))
    rows = {row["id"]: row for row in images}
    return [
        Faithful(name, dice, pictures.overlaid(colours_last(images, rows[name]), images.mask(rows[name]), side))
        for dice, name in chosen
    ]


def _column(mask: NDArray[np.uint8], real: NDArray[np.uint8] | None, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    small = pictures.enlarge(mask, CELL)
    blank = np.full((*small.shape, 3), 255, np.uint8)
    shown = blank if real is None else pictures.enlarge(real, CELL)
    cells = [pictures.colours(small), shown, pictures.enlarge(image, CELL), pictures.overlay(image, mask, CELL)]
    return np.concatenate([np.pad(cell, ((GAP, 0), (GAP, 0), (0, 0)), constant_values=255) for cell in cells])
