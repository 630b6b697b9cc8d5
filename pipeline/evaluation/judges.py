"""The judges of a study, and which of them judge an image: those that have not seen the pair of its mask.

Cross-fitting (Chernozhukov et al. 2018, "Double/debiased machine learning"): the training pairs are divided into
folds, judge k learns from all folds but fold k, and it alone judges what comes from fold k. A copy of a training image
is then judged by a segmenter that has never met that image.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.contracts import Segmenter
from pipeline.data.image_set import Row
from pipeline.data.lenders import lenders


@dataclass(frozen=True)
class Judges:
    """The trained judges: one that learnt from all training pairs, or one per fold."""

    segmenters: tuple[Segmenter, ...]
    folds: Mapping[str, int] | None = None  # of every training pair, by its id; None: one judge

    def __post_init__(self) -> None:
        assert self.folds is not None or len(self.segmenters) == 1


def judged_by(rows: Sequence[Row], folds: Mapping[str, int] | None, count: int) -> list[tuple[int, ...]]:
    """Return for every row the numbers of the judges, of `count`, that judge its image.

    An image whose row names training pairs of one fold is judged by the judge of that fold. All judges judge an image
    that names none (held-out real images, masks of a bank), and one that names pairs of several folds, of which every
    judge has seen some.
    """
    everyone = tuple(range(count))
    if folds is None:
        return [everyone] * len(rows)
    of_rows = ({folds[name] for name in named_pairs(row) if name in folds} for row in rows)
    return [tuple(found) if len(found) == 1 else everyone for found in of_rows]


def named_pairs(row: Row) -> set[str]:
    """Return every text by which a row may name a real pair: its source, its lenders, and its mask's transform."""
    transform = row.get("transform")
    return {str(row["source_id"]), *lenders(row), *_texts(json.loads(transform) if transform else None)}


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a JSON value; keys of objects are none of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
