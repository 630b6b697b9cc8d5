"""Scores of structures in volumes: distances in mm counted by hand, both rules for empty masks, and MONAI."""

from math import hypot

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from monai.metrics.surface_distance import compute_average_surface_distance

from pipeline.metrics.segmentation import boundary, volumes
from pipeline.metrics.segmentation.pooled import ConfusionCounts
from pipeline.metrics.statistics.correlation import spearman

EMPTY, FULL = np.zeros((3, 4, 12), bool), np.ones((3, 4, 12), bool)


def box(shape: tuple[int, ...], *sides: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*side) for side in sides)] = True
    return mask


def balls(seed: int, shape: tuple[int, int, int] = (20, 24, 18)) -> np.ndarray:
    rng, grid = np.random.default_rng(seed), np.indices(shape)
    mask = np.zeros(shape, bool)
    for _ in range(3):
        centre, radius = rng.uniform(0, shape), rng.uniform(3, 7)
        mask |= sum((axis - place) ** 2 for axis, place in zip(grid, centre, strict=True)) < radius**2
    return mask & (rng.random(shape) > 0.02)


def test_border_of_a_cube_of_four_is_all_but_its_core() -> None:
    assert boundary.border(box((8, 8, 8), (2, 6), (2, 6), (2, 6))).sum() == 64 - 8
    assert boundary.bounding_box(box((8, 9, 10), (2, 6), (1, 3), (4, 5))) == (slice(2, 6), slice(1, 3), slice(4, 5))


@pytest.mark.parametrize(("axis", "distance"), [(0, 2 * 5.0), (1, 2 * 1.5), (2, 2 * 0.5)])
def test_a_plate_moved_by_two_voxels_is_away_by_twice_their_side(axis: int, distance: float) -> None:
    one, other = np.zeros((9, 9, 9), bool), np.zeros((9, 9, 9), bool)
    one[(slice(None),) * axis + (3,)] = True
    other[(slice(None),) * axis + (5,)] = True
    found = volumes.structure_scores(one, other, (5.0, 1.5, 0.5), tolerance=distance - 0.01)
    assert (found.hd95, found.msd, found.nsd, found.dice, found.iou) == (distance, distance, 0, 0, 0)
    assert volumes.structure_scores(one, other, (5.0, 1.5, 0.5), tolerance=distance).nsd == 1


def test_mean_distance_is_the_larger_of_both_ways() -> None:
    one, other = box((1, 1, 9), (0, 1), (0, 1), (0, 1)), box((1, 1, 9), (0, 1), (0, 1), (0, 9))
    # From the one voxel: 0. From the nine: 0, 1 ... 8, in mm twice that.
    found = volumes.structure_scores(one, other, (1.0, 1.0, 2.0), tolerance=4.0)
    assert found.msd == pytest.approx(8.0)
    assert found.hd95 == pytest.approx(2 * 0.95 * 8)
    assert found.nsd == pytest.approx((1 + 3) / 10)
    assert found.dice == pytest.approx(2 / 10)


def test_volume() -> None:
    assert volumes.millilitres(500, (1.5, 1.5, 5.0)) == pytest.approx(500 * 11.25 / 1000)


def test_empty_masks_are_counted() -> None:
    assert volumes.structure_scores(EMPTY, EMPTY, (1, 1, 1)) == volumes.StructureScores(1, 1, 1, 0, 0)
    longest = hypot(3 * 2.0, 4, 12 * 0.5)
    for pair in ((EMPTY, FULL), (FULL, EMPTY)):
        assert volumes.structure_scores(*pair, (2.0, 1.0, 0.5)) == volumes.StructureScores(0, 0, 0, longest, longest)


def test_empty_masks_are_left_out() -> None:
    both = volumes.structure_scores(EMPTY, EMPTY, (1, 1, 1), empty="left_out")
    assert np.isnan(list(vars(both).values())).all()
    missed = volumes.structure_scores(EMPTY, FULL, (1, 1, 1), empty="left_out")
    assert (missed.dice, missed.iou, missed.nsd) == (0, 0, 0)
    assert np.isnan([missed.hd95, missed.msd]).all()
    there = volumes.structure_scores(FULL, FULL, (1, 1, 1), empty="left_out")
    assert there == volumes.StructureScores(1, 1, 1, 0, 0)
    assert volumes.nan_means([both, missed, there]) == {"dice": 0.5, "iou": 0.5, "nsd": 0.5, "hd95": 0, "msd": 0}
    assert volumes.nan_means([both]) == dict.fromkeys(vars(both))
    for pair in ((EMPTY, EMPTY), (EMPTY, FULL), (FULL, FULL)):
        same = volumes.leave_out_empty(volumes.structure_scores(*pair, (1, 1, 1)), volumes.count_overlap(*pair))
        assert str(same) == str(volumes.structure_scores(*pair, (1, 1, 1), empty="left_out"))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.8, 1.25)])
def test_monai_gives_the_same(seed: int, spacing: tuple[float, float, float]) -> None:
    found, true = balls(seed), balls(seed + 1)
    one, other = (torch.from_numpy(mask)[None, None] for mask in (found, true))
    hd95 = compute_hausdorff_distance(one, other, include_background=True, percentile=95, spacing=spacing)
    nsd = compute_surface_dice(one, other, class_thresholds=[1.0], include_background=True, spacing=spacing)
    means = [
        compute_average_surface_distance(*way, include_background=True, spacing=spacing)
        for way in ((one, other), (other, one))
    ]
    ours = volumes.structure_scores(found, true, spacing, tolerance=1.0)
    assert ours.hd95 == pytest.approx(float(hd95), abs=1e-4)
    assert ours.msd == pytest.approx(max(map(float, means)), abs=1e-4)
    assert ours.nsd == pytest.approx(float(nsd), abs=1e-6)
    assert 0 < ours.nsd < 1


def test_pooled_and_single_images() -> None:
    small = ConfusionCounts.of(np.array([1, 0, 0, 0], bool), np.array([1, 1, 0, 0], bool))
    large = ConfusionCounts.of(np.array([1, 1, 1, 1, 1, 0], bool), np.array([1, 1, 1, 1, 0, 0], bool))
    assert (small, large) == (ConfusionCounts(1, 0, 1, 2), ConfusionCounts(4, 1, 0, 1))
    assert small.scores == pytest.approx({"dsc": 2 / 3, "se": 1 / 2, "sp": 1, "acc": 3 / 4})
    assert large.scores == pytest.approx({"dsc": 8 / 9, "se": 1, "sp": 1 / 2, "acc": 5 / 6})
    assert (small + large).scores == pytest.approx({"dsc": 10 / 12, "se": 5 / 6, "sp": 3 / 4, "acc": 8 / 10})


def test_counts_without_a_lesion_or_without_background() -> None:
    nothing, everything = np.zeros(4, bool), np.ones(4, bool)
    assert ConfusionCounts.of(nothing, nothing).scores == {"dsc": 1, "se": 1, "sp": 1, "acc": 1}
    assert ConfusionCounts.of(everything, nothing).scores == {"dsc": 0, "se": 1, "sp": 0, "acc": 0}
    assert ConfusionCounts.of(nothing, everything).scores == {"dsc": 0, "se": 0, "sp": 1, "acc": 0}


def test_rank_correlation() -> None:
    assert spearman([1, 2, 30, 400], [0.1, 0.2, 0.3, 0.4]) == pytest.approx(1)
    # Ranks 1 2 3 4 against 2 1 4 3: 1 - 6 * 4 / (4 * 15).
    assert spearman([1, 2, 3, 4], [0.2, 0.1, 0.4, 0.3]) == pytest.approx(1 - 24 / 60)
    assert spearman([1, 2], [1, 2]) is spearman([1, 1, 1], [1, 2, 3]) is None
