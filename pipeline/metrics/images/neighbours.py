"""Nearest neighbours among feature rows."""

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.images.arrays import Features
from pipeline.metrics.images.similarity import unit


def nearest(rows: Features, among: Features) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return index and cosine distance of the nearest row of `among` for each row."""
    similarity = unit(rows) @ unit(among).T
    index = similarity.argmax(1)
    return index, np.maximum(1 - similarity[np.arange(len(rows)), index], 0)
