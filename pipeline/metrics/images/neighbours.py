"""Nearest neighbours among feature rows."""

import numpy as np
from numpy.typing import NDArray


def nearest(rows: NDArray[np.floating], among: NDArray[np.floating]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return index and cosine distance of the nearest row of `among` for each row."""
    similarity = _unit(rows) @ _unit(among).T
    index = similarity.argmax(1)
    return index, np.maximum(1 - similarity[np.arange(len(rows)), index], 0)


def _unit(rows: NDArray[np.floating]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
