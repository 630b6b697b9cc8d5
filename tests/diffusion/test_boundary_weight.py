"""The boundary weight: against its literal description, its limits, and masks without a border."""

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.diffusion.boundary_weight import Extend, boundary_weight, exponent, extended, nearness, outermost
from tests.reference import boundary_weight_literal as literal


def disc(size: int = 24, centre: tuple[float, float] = (10, 13), radius: float = 6) -> NDArray[np.uint8]:
    row, column = np.mgrid[:size, :size]
    return ((row - centre[0]) ** 2 + (column - centre[1]) ** 2 < radius**2).astype(np.uint8)


CUT = disc(24, (2, 22), 7)  # reaches over the image's rim
RANDOM = (np.random.default_rng(0).random((12, 17)) < 0.5).astype(np.uint8)


@pytest.mark.parametrize("mask", [disc(), CUT, RANDOM, 1 - disc()], ids=["disc", "cut", "random", "hole"])
@pytest.mark.parametrize("extend", ["none", "paper"])
@pytest.mark.parametrize("t", [0, 62, 249])
def test_it_is_what_the_description_says(mask: NDArray[np.uint8], extend: Extend, t: int) -> None:
    expected = literal.boundary_weight(mask.tolist(), t, 250, 0.2, extend)
    np.testing.assert_allclose(boundary_weight(mask, t, 250, 0.2, extend), expected, atol=1e-5)


def test_exponents_worked_out_by_hand() -> None:
    """(0.2 x 249/250)^0.2 = 0.724, (0.2 / 250)^0.2 = 0.240; gamma 1.5 at t = 1: 1.494^1.5 = 1.826."""
    found = [exponent(1, 250), exponent(125, 250), exponent(249, 250), exponent(1, 250, 1.5)]
    assert found == pytest.approx([0.7242, 0.6310, 0.2402, 1.8261], abs=1e-4)


def test_one_row_by_hand() -> None:
    """The border is at columns 2 and 4; the farthest pixel, 6, has distance 2."""
    mask = np.array([[0, 0, 1, 1, 1, 0, 0]])
    np.testing.assert_allclose(nearness(mask), [[0, 0.5, 1, 0.5, 1, 0.5, 0]])


def test_the_offset_of_the_distance_cancels() -> None:
    distance = 1 - nearness(disc()).astype(np.float64)
    for offset in (1.0, 1.1415, 1.4142, 7.0):
        shifted = offset * 24 - distance
        scaled = (shifted - shifted.min()) / (shifted.max() - shifted.min())
        np.testing.assert_allclose(scaled, nearness(disc()), atol=1e-6)


def test_it_becomes_uniform_towards_the_end_and_is_sharpest_at_the_start() -> None:
    inside = nearness(disc()) > 0
    means = [boundary_weight(disc(), t, 250)[inside].mean() for t in (0, 62, 125, 187, 249, 249.9999)]
    assert means == sorted(means)
    assert means[0] < 0.8
    assert boundary_weight(disc(), 250 - 1e-12, 250)[inside].min() > 0.98


@pytest.mark.parametrize("t", [0, 125, 249])
def test_it_falls_with_the_distance_from_the_border(t: int) -> None:
    """On the row through the centre from the border to the rim, and from the border to the centre."""
    row = boundary_weight(disc(), t, 250)[10]
    assert row[8] == row[18] == 1  # outermost pixels of a disc of radius 6 around column 13
    assert (np.diff(row[18:]) < 0).all()
    assert (np.diff(row[8:14]) < 0).all()


@pytest.mark.parametrize(
    "mask", [np.zeros((16, 16)), np.ones((16, 16)), np.pad([[1]], ((3, 12), (3, 12)))], ids=["empty", "full", "tiny"]
)
@pytest.mark.parametrize("extend", ["none", "paper"])
def test_masks_that_tell_of_no_border_weigh_all_pixels_alike(mask: NDArray[np.uint8], extend: Extend) -> None:
    """A single pixel of 256 is below a hundredth of the image."""
    assert (boundary_weight(mask, 10, 250, extend=extend) == 1).all()


def test_a_mask_that_is_all_border_weighs_all_pixels_alike() -> None:
    assert (boundary_weight(np.eye(2), 10, 250, extend="paper") == 1).all()


def test_the_border_is_inside_the_mask_and_not_on_the_rim() -> None:
    mask = np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]], bool)
    border = np.array([[0, 0, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]], bool)
    assert (outermost(mask) == border).all()


@pytest.mark.parametrize(("width", "drawn"), [(256, 7), (128, 5), (64, 3)])
def test_the_paper_draws_border_points_out_by_its_own_figures(width: int, drawn: int) -> None:
    border = np.zeros((2, width), bool)
    border[1, width // 2] = True
    assert extended(border).sum(1).tolist() == [0, drawn]
