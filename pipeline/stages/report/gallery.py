"""The sample grid: masks, the real images that they come from, what each generator made of them; its best and worst."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core import paths, tables
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.mosaic import mosaic
from pipeline.stages.report import pictures

EXTREMES = 4  # most and least faithful images shown per generator
CELL, GAP, WHITE = 128, 4, 255  # pixels of a picture of a sheet and between pictures; their grey level


@dataclass(frozen=True)
class Example:
    """One row of the grid, as data URIs."""

    id: str
    mask: str
    real: str | None  # None: the mask comes from no training image
    synthetic: str
    overlay: str


@dataclass(frozen=True)
class JudgedImage:
    """A synthetic image with the outline of its mask, and the judge's Dice."""

    id: str
    dice: float
    overlay: str


def examples(study: str, generators: Iterable[str], count: int, side: int = pictures.SIDE) -> dict[str, list[Example]]:
    """Return at most `count` rows of the grid by generator.

    Generators that follow training masks, turned or not, show the same ones.
    """
    return {name: [_example(*cells, side) for cells in _rows(study, name, count)] for name in generators}


def extremes(
    study: str, generators: Iterable[str], side: int = pictures.SIDE
) -> dict[str, dict[str, list[JudgedImage]]]:
    """Return, by generator, its "most faithful" and "least faithful" images; {} where the judge has scored none."""
    rankings = {name: _ranked(study, name) for name in generators}
    return {
        name: {
            "most faithful": _judged(study, name, ranked[::-1][:EXTREMES], side),
            "least faithful": _judged(study, name, ranked[:EXTREMES], side),
        }
        for name, ranked in rankings.items()
        if ranked
    }


def sheet(study: str, generator: str, count: int) -> NDArray[np.uint8]:
    """Return [H, W, 3] one example per column: mask, real image, synthetic image, overlay; for papers."""
    columns = [_column(mask, real, image) for _, mask, real, image in _rows(study, generator, count)]
    return mosaic(list(zip(*columns, strict=True)), GAP, WHITE)


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """Return at most `count` rows, evenly spread over all of them."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places]


Cells = tuple[str, NDArray[np.uint8], NDArray[np.uint8] | None, NDArray[np.uint8]]  # id, mask, real image, synthetic


def _rows(study: str, generator: str, count: int) -> Iterator[Cells]:
    train = ImageSet.open(paths.real(study)).split("train")
    synthetic = ImageSet.open(paths.synthetic(study, generator))
    sources = {row["id"]: row for row in train}
    first: dict[str, Row] = {}
    for row in synthetic.take(1):
        first.setdefault(row["source_id"], row)
    rows = spread(train.rows, count)
    followed = [first[row["id"]] for row in rows if row["id"] in first]
    for row in followed or spread(synthetic.take(1).rows, len(rows)):
        source = sources.get(row["source_id"])
        real = None if source is None else colours_last(train, source)
        yield row["source_id"], synthetic.mask(row), real, colours_last(synthetic, row)


def colours_last(images: ImageSet, row: Row) -> NDArray[np.uint8]:
    """Return an image of a set as [H, W, 3]."""
    return np.moveaxis(np.asarray(images.image(row), np.uint8), 0, -1)


def _example(
    name: str, mask: NDArray[np.uint8], real: NDArray[np.uint8] | None, image: NDArray[np.uint8], side: int
) -> Example:
    return Example(
        id=name,
        mask=pictures.uri(pictures.colours(pictures.enlarge(mask, side))),
        real=None if real is None else pictures.photo(real, side),
        synthetic=pictures.photo(image, side),
        overlay=pictures.overlay_uri(image, mask, side),
    )


def _ranked(study: str, generator: str) -> list[tuple[float, str]]:
    """Return Dice and id of the scored images, the least faithful first."""
    path = paths.scores(study, generator) / "images.csv"
    rows = tables.read_table(path) if path.is_file() else []
    return sorted((float(row["dice"]), row["id"]) for row in rows if row.get("dice"))


def _judged(study: str, generator: str, ranked: Sequence[tuple[float, str]], side: int) -> list[JudgedImage]:
    images = ImageSet.open(paths.synthetic(study, generator))
    rows = {row["id"]: row for row in images}
    return [
        JudgedImage(name, dice, pictures.overlay_uri(colours_last(images, rows[name]), images.mask(rows[name]), side))
        for dice, name in ranked
    ]


def _column(
    mask: NDArray[np.uint8], real: NDArray[np.uint8] | None, image: NDArray[np.uint8]
) -> list[NDArray[np.uint8]]:
    small = pictures.enlarge(mask, CELL)
    blank = np.full((*small.shape, 3), WHITE, np.uint8)
    shown = blank if real is None else pictures.enlarge(real, CELL)
    return [pictures.colours(small), shown, pictures.enlarge(image, CELL), pictures.overlay(image, mask, CELL)]
