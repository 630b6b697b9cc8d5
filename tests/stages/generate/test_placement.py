"""Places of lesions, drawn by hand: free, clear of frame and black, and with a label that tells all lesions."""

import numpy as np
import pytest

from pipeline.core import seeding
from pipeline.data.holes import hole_of
from pipeline.stages.generate import placement
from pipeline.stages.generate.placement import Lesion, allowed_shifts, place, shifted, smaller, surroundings
from tests.mask_sets import box

SIZE, MARGIN = 32, 0.07
GREY = np.full((3, SIZE, SIZE), 128, np.uint8)
NOTHING = np.zeros((SIZE, SIZE), np.uint8)
SQUARE = Lesion("train_1", box(SIZE, slice(10, 16), slice(12, 18)))


def rng(name: int = 0) -> np.random.Generator:
    return seeding.numpy_rng("placement", name)


@pytest.mark.parametrize("name", range(20))
def test_a_new_lesion_keeps_off_old_ones_and_the_label_shows_both(name: int) -> None:
    old = box(SIZE, slice(0, 12), slice(0, 20)) * 2
    found = place([SQUARE], GREY, old, MARGIN, rng(name))
    assert found is not None
    assert found.new.sum() == 36
    assert (found.label == np.where(found.new, 1, old)).all()
    assert not (hole_of(found.new, MARGIN) & hole_of(old > 0, MARGIN)).any()
    assert np.array_equal(shifted(SQUARE.mask, *found.shifts[0]) > 0, found.new)


def test_an_image_without_room_takes_no_lesion() -> None:
    assert place([SQUARE], GREY, box(SIZE, slice(0, 32), slice(8, 24)), MARGIN, rng()) is None


@pytest.mark.parametrize("name", range(5))
def test_several_lesions_keep_off_each_other(name: int) -> None:
    small = Lesion("train_2", box(SIZE, slice(4, 7), slice(20, 24)))
    found = place([SQUARE, small], GREY, NOTHING, MARGIN, rng(name))
    assert found is not None and len(found.shifts) == 2
    one, two = (shifted(part.mask, *shift) > 0 for part, shift in zip((SQUARE, small), found.shifts, strict=True))
    assert np.array_equal(found.new, one | two)
    assert not (hole_of(one, MARGIN) & hole_of(two, MARGIN)).any()


@pytest.mark.parametrize("name", range(10))
def test_no_lesion_goes_into_the_black_around_the_field_of_view(name: int) -> None:
    image = GREY.copy()
    image[:, :, :14] = 4
    image[:, 20, 25] = 0  # a dark spot inside belongs to the field of view
    found = place([SQUARE], image, NOTHING, MARGIN, rng(name))
    assert found is not None and not found.new[:, :17].any()


def test_surroundings_of_the_same_colour_are_preferred() -> None:
    image = GREY.copy()
    image[0, :, 16:] = 255
    red = Lesion("train_1", SQUARE.mask, surroundings(image, box(SIZE, slice(10, 16), slice(22, 28)), MARGIN))
    sides = [place([red], image, NOTHING, MARGIN, rng(name)) for name in range(10)]
    assert all(found is not None and np.nonzero(found.new)[1].mean() > 16 for found in sides)


@pytest.mark.parametrize(
    ("occupied", "limits"),
    [((3, 5), (-2, 25)), ((0, 5), (0, 0)), ((20, 31), (0, 0)), ((1, 30), (0, 0)), ((1, 5), (0, 25))],
)
def test_what_is_clear_of_the_frame_stays_clear_and_what_is_cut_stays_put(
    occupied: tuple[int, int], limits: tuple[int, int]
) -> None:
    lines = np.zeros(SIZE, bool)
    lines[occupied[0] : occupied[1] + 1] = True
    assert allowed_shifts(lines) == limits


def test_a_hole_around_all_of_the_image_leaves_no_surroundings() -> None:
    assert surroundings(GREY, np.ones((SIZE, SIZE), np.uint8), MARGIN) is None
    assert placement.field_of_view(GREY).all()
    assert not placement.field_of_view(GREY * 0).any()


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (box(SIZE, slice(10, 20), slice(12, 22)), box(SIZE, slice(12, 18), slice(14, 20))),
        (box(SIZE, slice(0, 10), slice(12, 22)), box(SIZE, slice(0, 6), slice(14, 20))),
        (box(SIZE, slice(22, 32), slice(0, 32)), box(SIZE, slice(27, 32), slice(8, 24))),
    ],
)
def test_a_smaller_mask_keeps_its_middle_or_its_side_of_the_frame(mask: np.ndarray, expected: np.ndarray) -> None:
    made = smaller(Lesion("train_1", mask), 0.5).mask
    assert abs(made.sum() / mask.sum() - 0.25) < 0.12
    for axis in (0, 1):
        found, told = (np.flatnonzero(one.any(axis))[[0, -1]] for one in (made, expected))
        assert (abs(found - told) <= 1).all()
        assert ((found == 0) == (told == 0)).all() and ((found == SIZE - 1) == (told == SIZE - 1)).all()
    assert smaller(SQUARE, 1.0) is SQUARE


def test_a_mask_shrunk_to_nothing_has_no_place() -> None:
    assert place([Lesion("train_1", NOTHING)], GREY, NOTHING, MARGIN, rng()) is None
