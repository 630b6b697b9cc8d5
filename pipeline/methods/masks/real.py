"""The masks of the training images, as the paper uses them; a `count` above their number repeats them in order."""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from pipeline.core.contracts import ConditioningMask
from pipeline.core.section import Section
from pipeline.data.image_set import ImageSet
from pipeline.methods.masks._sequence import LazyMasks, require_images
from pipeline.methods.masks._warp import Lookup


class Params(Section):
    """There is nothing to set."""


def build(params: Params, train: ImageSet, count: int | None, seed: str) -> LazyMasks:
    """One mask per training image, in the order of its rows; `count` may take fewer. Raises UserError."""
    mark = _repetition_mark(require_images(train))
    return LazyMasks(len(train) if count is None else count, partial(_mask, train, mark))


def lookup(size: int, transform: Mapping[str, Any]) -> Lookup:
    """Return where the pixels of a mask come from: each from its own place."""
    return np.arange(size * size).reshape(size, size)


def _mask(train: ImageSet, mark: str, index: int) -> ConditioningMask:
    repetition, position = divmod(index, len(train))
    row = train.rows[position]
    name = row["id"] if repetition == 0 else f"{row['id']}{mark}{repetition:06d}"
    return ConditioningMask(name, row["id"], {}, train.mask(row), row["prompt"], row["source"])


def _repetition_mark(train: ImageSet) -> str:
    """Return the text between an id and the number of its repetition, such that no id looks like a repetition."""
    mark = "_r"
    while any(re.search(rf"{mark}\d+$", name) for name in train.ids):
        mark += "r"
    return mark
