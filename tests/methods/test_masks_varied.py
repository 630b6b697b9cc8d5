"""Masks under random and elastic transforms keep what they promise, whatever the numbers."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.methods.masks import _warp, elastic, random
from pipeline.methods.masks._bounds import Bounds, SourceMask, lesions
from pipeline.methods.masks._sequence import LazyMasks
from tests.mask_sets import box, phantom_masks, reaches_the_frame, written

METHODS = {"random": random, "elastic": elastic}
CASES = [
    ("random", {}),
    ("random", {"scale": [0.2, 5], "rotate": 180, "shift": 0.5, "area": [0.8, 1.2], "tries": 3}),
    ("elastic", {}),
    ("elastic", {"sigma": 0.04, "amplitude": 0.04, "area": [0.9, 1.1], "tries": 3}),
]


@pytest.fixture(scope="module", params=[2, 3])
def phantoms(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """20 masks of the default data set; with three classes an instrument reaches in from the frame."""
    return phantom_masks(tmp_path_factory.mktemp("phantoms"), 20, request.param)


def vary(name: str, train: ImageSet, count: int, **values: Any) -> LazyMasks:
    params = plugins.read_params("masks", name, values, "mask_params")
    return METHODS[name].build(params, train, count, "seed")


@pytest.mark.parametrize(("name", "values"), CASES)
def test_a_thousand_transformed_masks_keep_their_bounds(name: str, values: dict[str, Any], phantoms: ImageSet) -> None:
    """250 cases for each of two settings, two methods, and two numbers of classes: 2000 in all."""
    low, high = values.get("area", (0.5, 2.0))
    sources = {row["id"]: phantoms.mask(row) for row in phantoms}
    for mask in vary(name, phantoms, 250, **values):
        source = sources[mask.source_id]
        assert set(np.unique(mask.pixels)) == set(np.unique(source)), mask.transform
        for label in set(np.unique(source).tolist()) - {0}:
            ratio = (mask.pixels == label).sum() / (source == label).sum()
            assert low <= ratio <= high, mask.transform
            assert reaches_the_frame(source, label) or not reaches_the_frame(mask.pixels, label), mask.transform


@pytest.mark.parametrize(("name", "values"), CASES)
def test_numbers_stay_within_the_bounds_and_make_the_mask_again(
    name: str, values: dict[str, Any], phantoms: ImageSet
) -> None:
    params = METHODS[name].Params(**values)
    for mask in vary(name, phantoms, 40, **values):
        told, source = mask.transform, phantoms.mask(phantoms.rows[int(mask.source_id[-3:])])
        if name == "random":
            assert params.scale[0] <= told["scale"] <= params.scale[1]
            assert abs(told["rotate"]) <= params.rotate
            assert max(map(abs, told["shift"])) <= params.shift
        else:
            assert 0 <= told["amplitude"] <= params.amplitude
        np.testing.assert_array_equal(source.ravel()[METHODS[name].lookup(64, told)], mask.pixels)


@pytest.mark.parametrize("name", METHODS)
def test_most_masks_change(name: str, phantoms: ImageSet) -> None:
    masks = [*vary(name, phantoms, 100)]
    same = [np.array_equal(mask.pixels, phantoms.mask(phantoms.rows[k % 20])) for k, mask in enumerate(masks)]
    assert sum(same) <= 2
    assert len({mask.pixels.tobytes() for mask in masks}) >= 98


def test_the_similarity_moves_a_lesion_as_told() -> None:
    """A bar of 2 x 4 pixels, twice as large, a quarter turn, and a quarter of the image down."""
    mask = box(32, slice(9, 11), slice(14, 18))
    centre, shift = np.array([10 / 32, 16 / 32]), np.array([8 / 32, 0])
    result = mask.ravel()[_warp.similarity(32, (False, False), 2.0, 90.0, centre, shift)]
    np.testing.assert_array_equal(result, box(32, slice(14, 22), slice(14, 18)))


def test_positive_degrees_turn_from_right_to_down() -> None:
    mask = box(9, slice(4, 5), slice(4, 8))  # an arm to the right
    result = mask.ravel()[_warp.similarity(9, (False, False), 1.0, 90.0, np.array([0.5, 0.5]), np.zeros(2))]
    np.testing.assert_array_equal(result, box(9, slice(4, 8), slice(4, 5)))


@pytest.mark.parametrize(("flips", "expected"), [((True, False), np.flipud), ((False, True), np.fliplr)])
def test_a_flip_is_exact(flips: tuple[bool, bool], expected: Any) -> None:
    mask = np.random.default_rng(0).integers(0, 3, (16, 16)).astype(np.uint8)
    lookup = _warp.similarity(16, flips, 1.0, 0.0, np.array([0.3, 0.7]), np.zeros(2))
    np.testing.assert_array_equal(mask.ravel()[lookup], expected(mask))


def test_what_the_frame_cuts_goes_on_to_the_frame() -> None:
    mask = box(16, slice(6, 9), slice(0, 8))  # comes in from the left
    moved = mask.ravel()[_warp.similarity(16, (False, False), 1.0, 0.0, np.array([0.5, 0.5]), np.array([0, 0.25]))]
    np.testing.assert_array_equal(moved, box(16, slice(6, 9), slice(0, 12)))


def test_displacements_do_not_depend_on_the_number_of_pixels() -> None:
    coarse, fine = (_warp.displacement(np.random.default_rng(1), size, 0.1) for size in (32, 96))
    np.testing.assert_allclose(coarse, fine[:, 1::3, 1::3], atol=0.05)  # both have a longest vector of 1
    assert np.hypot(*fine).max() == pytest.approx(1)


def test_a_larger_sigma_is_smoother() -> None:
    slopes = [np.abs(np.diff(_warp.displacement(np.random.default_rng(1), 64, s))).max() for s in (0.03, 0.1, 0.3)]
    assert all(fine > coarse for fine, coarse in pairwise(slopes))


def test_a_fold_is_seen() -> None:
    """p -> p + vectors(p) is 0, 2, 1, 3 along one axis, then 0, 0.5, 1, 1.5."""
    assert _warp.folds(np.stack([np.zeros((4, 4)), np.tile(np.array([0.0, 2, -2, 0]), (4, 1))]))
    assert not _warp.folds(np.stack([np.zeros((4, 4)), np.tile(np.array([0.0, -0.5, -1, -1.5]), (4, 1))]))


def test_elastic_lesions_stay_in_one_piece(phantoms: ImageSet) -> None:
    for mask in vary("elastic", phantoms, 60):
        whole = [ndimage.label(phantoms.mask(phantoms.rows[int(mask.source_id[-3:])]) == 1, np.ones((3, 3)))[1]]
        assert ndimage.label(mask.pixels == 1, np.ones((3, 3)))[1] <= whole[0] + 1  # a thin rim may break


def test_the_area_bound_is_that_of_each_class() -> None:
    mask = box(8, slice(2, 4), slice(2, 4))  # 4 pixels
    mask[6, 1:7] = 2  # 6 pixels
    loses_two = np.arange(64).reshape(8, 8)
    loses_two[2, 2:4] = 0  # of label 1, which keeps half
    assert SourceMask.of(mask).allows(loses_two, Bounds(area=(0.5, 2.0)))
    assert not SourceMask.of(mask).allows(loses_two, Bounds(area=(0.51, 2.0)))


def test_a_lesion_clear_of_the_frame_may_not_reach_it() -> None:
    mask = box(8, slice(1, 3), slice(1, 3))
    assert not SourceMask.of(mask).allows(np.roll(np.arange(64).reshape(8, 8), -1, axis=0), Bounds())
    cut = box(8, slice(0, 3), slice(1, 3))
    assert SourceMask.of(cut).allows(np.roll(np.arange(64).reshape(8, 8), -1, axis=0), Bounds(area=(0.1, 2.0)))


def test_no_lesion_may_vanish_but_specks_may() -> None:
    two = box(32, slice(4, 16), slice(4, 16)) + box(32, slice(20, 22), slice(20, 22))  # 144 and 4 pixels
    lookup = np.arange(1024).reshape(32, 32)
    lookup[20:22, 20:22] = 0
    assert not SourceMask.of(two).allows(lookup, Bounds())
    speck = box(32, slice(4, 16), slice(4, 16)) + box(32, slice(20, 21), slice(20, 21))  # 1 of 145 pixels
    assert SourceMask.of(speck).allows(lookup, Bounds())


def test_regions_that_meet_at_a_corner_are_one_and_a_class_is_never_all_specks() -> None:
    corner = box(8, slice(1, 3), slice(1, 3)) + box(8, slice(3, 5), slice(3, 5))
    assert lesions(corner)[1] == 1
    dots = np.zeros((64, 64), np.uint8)
    dots[1:63:3, 1:63:3] = 1  # 441 equal specks, each below a hundredth
    assert lesions(dots)[1] == 441


@pytest.mark.parametrize("name", METHODS)
def test_an_empty_mask_stays_empty_and_a_full_one_full(name: str, tmp_path: Path) -> None:
    train = written(tmp_path, [box(16, slice(0)), box(16)])
    empty, full = vary(name, train, 2)
    assert not empty.pixels.any()
    assert full.pixels.all()


@pytest.mark.parametrize("name", METHODS)
def test_where_nothing_fits_the_mask_is_at_most_mirrored(name: str, tmp_path: Path) -> None:
    """One pixel from the frame on all sides; areas within a thousandth."""
    mask = box(32, slice(1, 31), slice(1, 31))
    mask[1, 1] = 0
    values = {"scale": [1, 10]} if name == "random" else {"sigma": 0.25, "amplitude": 0.25}
    results = [*vary(name, written(tmp_path, [mask]), 12, area=[0.999, 1.001], tries=2, **values)]
    allowed = {m.tobytes() for m in (mask, mask[::-1], mask[:, ::-1], mask[::-1, ::-1])}
    assert {m.pixels.tobytes() for m in results} <= (allowed if name == "random" else {mask.tobytes()})


def test_half_of_the_masks_are_mirrored_unless_switched_off(phantoms: ImageSet) -> None:
    masks = [*vary("random", phantoms, 200)]
    for flip in ("flip_vertical", "flip_horizontal"):
        assert 70 <= sum(mask.transform[flip] for mask in masks) <= 130
    still = vary("random", phantoms, 20, flip_vertical=False, flip_horizontal=False)
    assert not any(mask.transform["flip_vertical"] or mask.transform["flip_horizontal"] for mask in still)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("random", {"area": [1.1, 2]}, r"area must be \[low, high\] with 0.01 <= low <= 1 <= high"),
        ("random", {"area": [0.5, float("nan")]}, "area must be"),
        ("random", {"scale": [0.5, 0.9]}, "scale must be"),
        ("random", {"scale": [0, 1]}, "scale must be"),
        ("random", {"scale": 2}, r"mask_params\.scale"),
        ("random", {"shift": 0.6}, r"mask_params\.shift.*found 0\.6"),
        ("random", {"shift": -0.1}, r"mask_params\.shift"),
        ("random", {"rotate": 181}, r"mask_params\.rotate"),
        ("random", {"rotate": float("nan")}, r"mask_params\.rotate"),
        ("random", {"tries": 0}, r"mask_params\.tries"),
        ("elastic", {"sigma": 0}, r"mask_params\.sigma"),
        ("elastic", {"amplitude": 0.3}, r"mask_params\.amplitude"),
        ("elastic", {"amplitude": 0.1, "sigma": 0.05}, "amplitude 0.1 exceeds sigma 0.05"),
        ("elastic", {"amplitud": 0.1}, "did you mean amplitude"),
    ],
)
def test_bad_bounds_are_refused(name: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        plugins.read_params("masks", name, values, "generators.siamese.mask_params")
