"""Volumes on a common grid, by hand: axes, spacing, shape, and where the voxels lie."""

from typing import Any

import numpy as np
import pytest

from pipeline.data import nifti
from pipeline.data.grids import Grid, Reorientation, distance, same_spacing


def affine(*columns: list[float], origin: list[float] | None = None) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Of three columns and an origin in mm."""
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = np.array(columns).T, origin or [0, 0, 0]
    return place


def position(place: np.ndarray[Any, Any], *index: float) -> list[float]:
    return (place @ [*index, 1])[:3].tolist()


def test_axes_are_turned_to_right_front_top_and_every_voxel_stays_where_it_is() -> None:
    stored = np.arange(24).reshape(2, 3, 4)
    place = affine([0, 0, -5], [-2, 0, 0], [0, 3, 0], origin=[10, 20, 30])  # down, left, front
    reorientation = Reorientation.from_affine(place)
    assert (reorientation.axes, reorientation.flipped) == ((1, 2, 0), (True, False, True))
    turned, new = reorientation.apply(stored[None])[0], reorientation.affine(place, stored.shape)
    assert turned.shape == (3, 4, 2) and nifti.spacing(new) == (2, 3, 5)
    assert new[:3, :3].tolist() == np.diag([2, 3, 5]).tolist()
    for i, j, k in np.ndindex(2, 3, 4):
        x, y, z = 2 - j, k, 1 - i
        assert turned[x, y, z] == stored[i, j, k] and position(new, x, y, z) == position(place, i, j, k)


def test_an_oblique_volume_is_turned_to_the_nearest_axes() -> None:
    c, s = np.cos(0.5), np.sin(0.5)
    reorientation = Reorientation.from_affine(affine([-c, -s, 0], [s, -c, 0], [0, 0, 1]))
    assert (reorientation.axes, reorientation.flipped) == ((0, 1, 2), (True, True, False))


@pytest.mark.parametrize(
    "count, shape, kept",
    [
        (6, 4, [1, 2, 3, 4]),
        (7, 4, [1, 2, 3, 4]),  # one more is cut off at the end
        (4, 4, [0, 1, 2, 3]),
        (3, 6, [-1, 0, 1, 2, -1, -1]),  # -1: padded
        (4, 7, [-1, 0, 1, 2, 3, -1, -1]),
    ],
)
def test_volumes_are_cropped_and_padded_around_the_middle(count: int, shape: int, kept: list[int]) -> None:
    voxels = 10 + np.arange(count).reshape(1, count, 1, 1)
    found, place = Grid((shape, 1, 1)).fit(voxels, affine([2, 0, 0], [0, 1, 0], [0, 0, 1]), "linear")
    assert found.ravel().tolist() == [0 if index < 0 else 10 + index for index in kept]
    seen = next(place_in for place_in, index in enumerate(kept) if index >= 0)
    assert position(place, seen, 0, 0) == [2 * kept[seen], 0, 0]


def test_images_are_resampled_linearly_about_their_middle() -> None:
    voxels = np.array([0, 1, 2, 3], np.float32).reshape(1, 4, 1, 1)
    coarse, place = Grid((2, 1, 1), (2, 1, 1)).fit(voxels, np.eye(4), "linear")
    assert coarse.ravel().tolist() == [0.5, 2.5]  # voxels 2 mm wide hold two old ones each
    assert position(place, 0, 0, 0) == [0.5, 0, 0] and nifti.spacing(place) == (2, 1, 1)
    fine, place = Grid((8, 1, 1), (0.5, 1, 1)).fit(voxels, np.eye(4), "linear")
    assert fine.ravel().tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]  # the ends do not reach beyond
    assert nifti.spacing(place) == (0.5, 1, 1)


def test_labels_take_the_nearest_voxel_and_gain_no_values() -> None:
    labels = np.array([0, 4, 4, 1], np.uint8).reshape(1, 4, 1, 1)
    fine, _ = Grid((8, 1, 1), (0.5, 1, 1)).fit(labels, np.eye(4), "nearest")
    assert fine.ravel().tolist() == [0, 0, 4, 4, 4, 4, 1, 1] and fine.dtype == np.uint8


def test_a_linear_picture_stays_linear_in_mm_on_any_grid() -> None:
    place = affine([1.5, 0, 0], [0, 0.7, 0], [0, 0, 4], origin=[-8, 3, 5])
    corners = np.stack(np.meshgrid(*map(np.arange, (12, 20, 6)), indexing="ij"), -1)
    mm = corners @ place[:3, :3].T + place[:3, 3]
    ramp = (mm @ [1.0, 2.0, -0.5])[None]
    found, new = Grid((10, 8, 10), (1.2, 1.1, 2.0)).fit(ramp, place, "linear")
    inner = np.stack(np.meshgrid(*map(np.arange, (10, 8, 10)), indexing="ij"), -1)[:, :, 1:-1]
    assert np.allclose(found[0][:, :, 1:-1], (inner @ new[:3, :3].T + new[:3, 3]) @ [1.0, 2.0, -0.5], atol=1e-4)


def test_distances_of_places_and_equal_spacings() -> None:
    moved = affine([1, 0, 0], [0, 1, 0], [0, 0, 1], origin=[0, 3, 4])
    assert distance(np.eye(4), moved, (5, 5, 5)) == 5
    stretched = affine([1.1, 0, 0], [0, 1, 0], [0, 0, 1])
    assert distance(np.eye(4), stretched, (11, 5, 5)) == pytest.approx(1)  # ten steps of 0.1 mm
    assert same_spacing((1, 1, 0.7), (1, 1, 0.69999999)) and not same_spacing((1, 1, 0.7), (1, 1, 0.75))
