"""The sample grid: masks, the real images that they come from, and what each generator made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline import paths
from pipeline.data.image_set import ImageSet, Row
from pipeline.params import Params
from pipeline.reporting import pictures


@dataclass(frozen=True)
class Example:
    """One row of the grid, as data URIs."""

    id: str
    mask: str
    real: str | None  # None: the mask comes from no training image
    synthetic: str
    overlay: str


def examples(params: Params) -> dict[str, list[Example]]:
    """Rows of the grid by generator; those that follow training masks, turned or not, show the same ones."""
    train = ImageSet.open(paths.real(params.study)).split("train")
    rows = spread(train.rows, params.report.samples)
    return {name: list(_rows(params.study, name, train, rows)) for name in params.generators}


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` rows, evenly over all of them."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places]


def _rows(study: str, generator: str, train: ImageSet, rows: Sequence[Row]) -> Iterator[Example]:
    synthetic = ImageSet.open(paths.synthetic(study, generator))
    sources = {row["id"]: row for row in train}
    first: dict[str, Row] = {}
    for row in synthetic.take(1):
        first.setdefault(row["source_id"], row)
    followed = [first[row["id"]] for row in rows if row["id"] in first]
    for made in followed or spread(synthetic.take(1).rows, len(rows)):
        source = sources.get(made["source_id"])
        yield _example(synthetic, made, None if source is None else np.moveaxis(train.image(source), 0, -1))


def _example(synthetic: ImageSet, made: Row, real: NDArray[np.uint8] | None) -> Example:
    mask, image = synthetic.mask(made), np.moveaxis(synthetic.image(made), 0, -1)
    return Example(
        id=made["source_id"],
        mask=pictures.uri(pictures.colours(pictures.enlarge(mask))),
        real=None if real is None else pictures.uri(pictures.enlarge(real)),
        synthetic=pictures.uri(pictures.enlarge(image)),
        overlay=pictures.uri(pictures.overlay(image, mask)),
    )
