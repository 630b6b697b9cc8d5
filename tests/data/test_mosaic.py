"""Mosaics: the gap lies between pictures only, and short rows end in background."""

import numpy as np
from numpy.typing import NDArray

from pipeline.data.mosaic import mosaic


def cell(level: int) -> NDArray[np.uint8]:
    return np.full((2, 3, 3), level, np.uint8)


def test_a_gap_lies_between_pictures_and_not_around_them() -> None:
    drawn = mosaic([[cell(1), cell(2)], [cell(3)]], 1, 9)
    assert drawn[..., 0].tolist() == [
        [1, 1, 1, 9, 2, 2, 2],
        [1, 1, 1, 9, 2, 2, 2],
        [9, 9, 9, 9, 9, 9, 9],
        [3, 3, 3, 9, 9, 9, 9],
        [3, 3, 3, 9, 9, 9, 9],
    ]


def test_grey_pictures_without_a_gap() -> None:
    assert mosaic([[cell(1)[..., 0], cell(2)[..., 0]]], 0, 9).tolist() == [[1, 1, 1, 2, 2, 2]] * 2
