"""The sample grid: training masks with their real image and what each generator made of the mask."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import paths
from pipeline.data.image_set import ImageSet, Row
from pipeline.params import Params
from pipeline.reporting import pictures


@dataclass(frozen=True)
class Example:
    """One row of the grid, as data URIs."""

    id: str
    mask: str
    real: str
    synthetic: str
    overlay: str


def examples(params: Params) -> dict[str, list[Example]]:
    """Rows of the grid by generator; every generator shows the same masks."""
    train = ImageSet.open(paths.real(params.study)).split("train")
    rows = spread(train.rows, params.report.samples)
    return {name: list(_rows(params.study, name, train, rows)) for name in params.generators}


def spread(rows: Sequence[Row], count: int) -> list[Row]:
    """At most `count` rows, evenly over all of them."""
    places = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return [rows[place] for place in places]


def _rows(study: str, generator: str, train: ImageSet, rows: Sequence[Row]) -> Iterator[Example]:
    synthetic = ImageSet.open(paths.synthetic(study, generator))
    first = {row["source_id"]: row for row in synthetic.take(1)}
    for row in rows:
        made = first.get(row["id"])
        if made is None:
            continue
        mask, real = train.mask(row), np.moveaxis(train.image(row), 0, -1)
        image = np.moveaxis(synthetic.image(made), 0, -1)
        yield Example(
            id=row["id"],
            mask=pictures.uri(pictures.colours(pictures.enlarge(mask))),
            real=pictures.uri(pictures.enlarge(real)),
            synthetic=pictures.uri(pictures.enlarge(image)),
            overlay=pictures.uri(pictures.overlay(image, mask)),
        )
