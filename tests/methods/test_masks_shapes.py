"""Procedural lesions: measured as worked out by hand, drawn with the areas and places of the training masks."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.methods.masks import _curves, shapes
from pipeline.methods.masks._lesions import (
    Lesion,
    Spread,
    measure_lesions,
    measure_spreads,
    resample_lesion,
    visible_shares,
)
from pipeline.methods.masks._sequence import LazyMasks
from tests.mask_sets import box, phantom_masks, reaches_the_frame, written

ROUND = Lesion(1, 0.04, (0.5, 0.5), 1.0, 0.0, False)
SMOOTH = np.zeros((2, len(_curves.ORDERS)))


@pytest.fixture(scope="module", params=[2, 3])
def phantoms(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """40 masks of the default data set."""
    return phantom_masks(tmp_path_factory.mktemp("phantoms"), 40, request.param)


def build(train: ImageSet, count: int | None = None, **values: float) -> LazyMasks:
    return shapes.build(shapes.Params(**values), train, count, "seed")  # type: ignore[arg-type]


def test_a_rectangle_is_measured_as_its_ellipse() -> None:
    """4 x 8 pixels of 16 x 16: variances (n^2 - 1) / 12 + 1 / 12 = n^2 / 12, so aspect 4 / 8, length to the right."""
    (lesion,) = measure_lesions(box(16, slice(2, 6), slice(4, 12)))
    assert lesion.area == 32 / 256
    assert lesion.centre == (4 / 16, 8 / 16)
    assert lesion.aspect == pytest.approx(0.5)
    assert math.sin(lesion.tilt) == pytest.approx(0)
    assert not lesion.cut
    (turned,) = measure_lesions(box(16, slice(2, 6), slice(4, 12)).T)
    assert abs(math.sin(turned.tilt)) == pytest.approx(1)


def test_every_region_of_every_class_is_a_lesion_and_holes_count() -> None:
    mask = box(32, slice(2, 12), slice(2, 12))
    mask[4:8, 4:8] = 2
    mask[20:, :] = 2
    first, hole, below = measure_lesions(mask)
    assert (first.label, first.area, first.cut) == (1, 100 / 1024, False)
    assert (hole.label, hole.area, hole.cut) == (2, 16 / 1024, False)
    assert (below.label, below.area, below.cut) == (2, 384 / 1024, True)


def test_spreads_are_the_standard_deviations_of_each_label() -> None:
    other = replace(ROUND, area=0.04 * math.exp(2), centre=(0.5, 0.7))
    spread = measure_spreads([ROUND, other, replace(ROUND, label=2)])
    np.testing.assert_allclose(spread[1].deviations, [1, 0, 0.1, 0], atol=1e-12)
    assert spread[1].areas == (0.04, other.area)
    np.testing.assert_allclose(spread[2].deviations, 0, atol=1e-12)


def test_the_kernel_has_the_width_it_is_given() -> None:
    rng, deviations = np.random.default_rng(0), np.array([0.5, 0.1, 0.05, 0.2])
    spread = Spread(deviations, (0.0001, 1.0))
    rows = np.array([resample_lesion(replace(ROUND, aspect=0.5), spread, 0.4, rng).vector for _ in range(4000)])
    np.testing.assert_allclose(rows.std(0), 0.4 * deviations, rtol=0.05)
    np.testing.assert_allclose(rows.mean(0), [math.log(0.04), 0.5, 0.5, math.log(0.5)], atol=0.01)
    assert resample_lesion(ROUND, spread, 0.0, rng) == ROUND


def test_areas_stay_between_the_smallest_and_the_largest() -> None:
    rng, spread = np.random.default_rng(0), Spread(np.array([1.0, 0, 0, 0]), (0.03, 0.05))
    drawn = [resample_lesion(ROUND, spread, 1.0, rng).area for _ in range(200)]
    assert (min(drawn), max(drawn)) == (0.03, 0.05)


@pytest.mark.parametrize("aspect", [0.2, 1.0])
def test_the_region_inside_an_outline_has_area_one(aspect: float) -> None:
    """The shoelace formula over the outline's points."""
    for seed in range(5):
        edge = _curves.outline(aspect, 0.7, _curves.waves(np.random.default_rng(seed), 0.3))
        x, y = edge * np.cos(_curves.CIRCLE), edge * np.sin(_curves.CIRCLE)
        assert abs((x * np.roll(y, -1) - y * np.roll(x, -1)).sum() / 2) == pytest.approx(1, rel=2e-3)


def test_without_waves_the_outline_is_the_ellipse() -> None:
    edge = _curves.outline(0.5, 0.0, SMOOTH)  # area pi a b = 1, b = a / 2
    assert edge[0] == pytest.approx(math.sqrt(2 / math.pi), rel=1e-6)
    assert edge[180] == pytest.approx(math.sqrt(2 / math.pi) / 2, rel=1e-6)


@pytest.mark.parametrize("centre", [(0.5, 0.5), (0.0, 0.0), (1.0, 0.3)])
def test_a_lesion_is_painted_with_its_area_clear_of_the_frame(centre: tuple[float, float]) -> None:
    pixels = _curves.region(replace(ROUND, centre=centre), SMOOTH, 64)
    assert pixels.mean() == pytest.approx(0.04, rel=0.04)
    assert not reaches_the_frame(pixels.astype(np.uint8), 1)


def test_a_lesion_that_the_frame_cuts_shows_its_area() -> None:
    lesion = replace(ROUND, centre=(0.03, 0.5), cut=True)
    pixels = _curves.region(lesion, SMOOTH, 64)
    assert pixels.mean() == pytest.approx(0.04, rel=0.04)
    assert pixels[0].any()


def test_a_lesion_below_a_pixel_is_one_pixel() -> None:
    assert _curves.region(replace(ROUND, area=1e-6), SMOOTH, 32).sum() == 1


def test_a_lesion_too_large_for_the_image_is_made_smaller() -> None:
    pixels = _curves.region(replace(ROUND, area=1.0), SMOOTH, 64)
    assert pixels.mean() == pytest.approx(math.pi / 4 * (61 / 64) ** 2, rel=0.02)  # a disc that keeps 1.5 pixels


def test_masks_have_the_classes_and_cuts_of_the_training_mask_they_are_drawn_from(phantoms: ImageSet) -> None:
    for mask in build(phantoms, 120):
        source = phantoms.mask(phantoms.rows[int(mask.transform["drawn_from"][-3:])])
        assert set(np.unique(mask.pixels)) == set(np.unique(source))
        assert not reaches_the_frame(mask.pixels, 1)  # no lesion of the phantom does


def test_areas_and_places_are_those_of_the_training_masks(phantoms: ImageSet) -> None:
    def numbers(masks: list[np.ndarray]) -> np.ndarray:
        return np.array([[(m == 1).mean(), *np.argwhere(m == 1).mean(0) / 64] for m in masks])

    real = numbers([phantoms.mask(row) for row in phantoms])
    drawn = numbers([mask.pixels for mask in build(phantoms, 240)])
    np.testing.assert_allclose(drawn.mean(0), real.mean(0), rtol=0.1)
    np.testing.assert_allclose(drawn.std(0), real.std(0), rtol=0.25)


def test_outlines_are_new(phantoms: ImageSet) -> None:
    masks = [*build(phantoms, 80)]
    assert len({mask.pixels.tobytes() for mask in masks}) == 80
    assert not any(np.array_equal(mask.pixels, phantoms.mask(phantoms.rows[k % 40])) for k, mask in enumerate(masks))
    assert all(len(mask.transform["shapes"]) >= 1 for mask in masks)


def test_lesions_are_smooth_and_in_one_piece(phantoms: ImageSet) -> None:
    for mask in build(phantoms, 60, roughness=0.0):
        if mask.pixels.max() == 1:  # else an instrument may lie across
            assert ndimage.label(mask.pixels, np.ones((3, 3)))[1] == 1


def test_the_transform_draws_the_mask_again(phantoms: ImageSet) -> None:
    for mask in build(phantoms, 20):
        told = [dict(shape) for shape in mask.transform["shapes"]]
        pairs = [(shape.pop("waves"), shape) for shape in told]
        again = shapes.draw([(Lesion(**numbers), waves) for waves, numbers in pairs], 64)
        np.testing.assert_array_equal(again, mask.pixels)


def test_an_inner_class_stays_in_view(tmp_path: Path) -> None:
    """A disc with a cup inside, whichever of the two has the larger label."""
    outer, inner = box(64, slice(12, 52), slice(12, 52)), box(64, slice(18, 46), slice(18, 46))
    for number, mask in enumerate((outer + inner, 2 * outer - inner)):
        drawn = build(written(tmp_path / str(number), [mask, np.roll(mask, 5, 0)], 3), 20)
        assert all(set(np.unique(m.pixels)) == {0, 1, 2} for m in drawn)
        assert all(m.transform["shapes"] for m in drawn)


def test_an_empty_training_mask_is_passed_over(tmp_path: Path) -> None:
    empty, full = box(32, slice(0)), box(32, slice(8, 20), slice(8, 20))
    masks = [*build(written(tmp_path, [empty, full, empty]), 6)]
    assert {mask.transform["drawn_from"] for mask in masks} == {"case_001"}


def test_only_empty_training_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="every training mask is empty"):
        build(written(tmp_path, [box(32, slice(0))]))


def test_where_no_try_leaves_every_class_in_view_the_training_mask_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mask = box(32, slice(8, 20), slice(8, 20))
    monkeypatch.setattr(shapes, "draw", lambda shapes, size: np.zeros((size, size), np.uint8))
    (drawn,) = build(written(tmp_path, [mask]))
    np.testing.assert_array_equal(drawn.pixels, mask)
    assert drawn.transform == {"method": "shapes", "drawn_from": "case_000", "shapes": []}


def test_the_share_in_view_counts_what_others_leave() -> None:
    mask = box(10, slice(0, 5), slice(0, 4))
    assert visible_shares(mask, [replace(ROUND, area=0.4), replace(ROUND, label=2)]) == {1: 0.5, 2: 0.0}
