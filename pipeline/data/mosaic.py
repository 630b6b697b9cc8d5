"""Pictures laid out in rows and columns, with even gaps between them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mosaic(rows: Sequence[Sequence[NDArray[np.uint8]]], gap: int, background: int) -> NDArray[np.uint8]:
    """Lay out pictures [H, W, ...] in rows, `gap` pixels of the grey level `background` between them and none around.

    Shorter rows are filled with background at their end.
    """
    columns = max(map(len, rows))
    blank = np.full_like(rows[0][0], background)
    lines = [[_framed(cell, gap, background) for cell in (*row, *[blank] * (columns - len(row)))] for row in rows]
    return np.concatenate([np.concatenate(line, axis=1) for line in lines])[gap:, gap:]


def _framed(picture: NDArray[np.uint8], gap: int, background: int) -> NDArray[np.uint8]:
    around = [(gap, 0), (gap, 0), *[(0, 0)] * (picture.ndim - 2)]
    return np.pad(picture, around, constant_values=background)
