"""Holes drawn by hand: their width, and the share of the drawn image in every pixel."""

import numpy as np
import pytest

from pipeline.data.holes import dilated, drawn_share, hole_of
from tests.mask_sets import box


def square() -> np.ndarray:
    return box(32, slice(12, 20), slice(10, 22)).astype(bool)


@pytest.mark.parametrize(("margin", "pixels"), [(0.0, 2), (0.02, 2), (0.125, 4)])
def test_a_margin_is_a_share_of_the_side_and_two_pixels_or_more(margin: float, pixels: int) -> None:
    rows, columns = np.nonzero(hole_of(square(), margin))
    assert (rows.min(), rows.max()) == (12 - pixels, 19 + pixels)
    assert (columns.min(), columns.max()) == (10 - pixels, 21 + pixels)


def test_corners_of_a_margin_are_round_and_nothing_leaves_the_image() -> None:
    assert dilated(box(5, slice(2, 3), slice(2, 3)).astype(bool), 1).sum() == 5
    assert hole_of(box(8, slice(0, 2), slice(0, 2)).astype(bool), 0.25).sum() == 13


def test_without_a_lesion_there_is_no_hole() -> None:
    nothing = np.zeros((16, 16), bool)
    assert not hole_of(nothing, 0.5).any()
    assert not drawn_share(nothing, 0.1, 0.05).any()


@pytest.mark.parametrize("feather", [0.0, 0.01, 0.1])
def test_a_lesion_is_drawn_all_through_and_nothing_outside_its_hole(feather: float) -> None:
    share = drawn_share(square(), 0.125, feather)
    assert (share[square()] == 1).all()
    assert (share[~hole_of(square(), 0.125)] == 0).all()
    assert share.dtype == np.float32 and 0 <= share.min() <= share.max() <= 1


def test_the_edge_falls_outwards() -> None:
    row = drawn_share(square(), 0.125, 0.03)[16, 22:28]
    assert (np.diff(row) <= 0).all()
    assert 0 < row[2] < 1
