"""NSD and HD95: numbers counted by hand, the rule for empty masks, and MONAI."""

from math import hypot, sqrt

import numpy as np
import pytest
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice

from pipeline.metrics.segmentation.boundary import border, border_scores


def square(size: int, top: int, left: int, side: int) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def blobs(seed: int, shape: tuple[int, int]) -> np.ndarray:
    """A few discs, some cut off by the image's edge, with holes of noise."""
    rng = np.random.default_rng(seed)
    row, column = np.ogrid[: shape[0], : shape[1]]
    mask = np.zeros(shape, bool)
    for _ in range(3):
        y, x, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(3, 12)
        mask |= (row - y) ** 2 + (column - x) ** 2 < r**2
    return mask & (rng.random(shape) > 0.02)


def test_border_of_a_square_of_four_is_its_outermost_ring() -> None:
    assert border(square(8, 2, 2, 4)).sum() == 16 - 4


def test_edge_of_the_image_is_a_border() -> None:
    assert border(np.ones((5, 5), bool)).sum() == 16


def test_square_moved_by_two_pixels() -> None:
    one, other = square(20, 5, 5, 5), square(20, 5, 7, 5)
    # 16 border pixels each; three columns of the upper and the lower row are common, the rest lies one or two away.
    found = border_scores(one, other, tolerance=0.0)
    assert found.nsd == pytest.approx((6 + 6) / 32)
    assert found.hd95 == 2
    assert border_scores(one, other, tolerance=2 / hypot(20, 20)).nsd == 1


def test_single_pixels_three_rows_and_four_columns_apart() -> None:
    one, other = square(10, 1, 1, 1), square(10, 4, 5, 1)
    assert border_scores(one, other, tolerance=4.99 / hypot(10, 10)) == border_scores(one, other, 0.1)
    assert border_scores(one, other, tolerance=5.01 / hypot(10, 10)).nsd == 1
    assert border_scores(one, other, 0.1).hd95 == 5
    assert border_scores(one, other, 0.1, spacing=(0.5, 2.0)).hd95 == pytest.approx(sqrt(1.5**2 + 8**2))


def test_empty_masks() -> None:
    empty, full = np.zeros((30, 40), bool), np.ones((30, 40), bool)
    assert (border_scores(empty, empty, 0.01).nsd, border_scores(empty, empty, 0.01).hd95) == (1, 0)
    for one, other in ((empty, full), (full, empty)):
        assert (border_scores(one, other, 0.01).nsd, border_scores(one, other, 0.01).hd95) == (0, 50)
    assert border_scores(empty, full, 0.01, spacing=(0.2, 0.2)).hd95 == pytest.approx(10)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 1.3)])
def test_monai_gives_the_same(seed: int, spacing: tuple[float, float]) -> None:
    shape = (48, 64)
    found, true = blobs(seed, shape), blobs(seed + 100 * (seed % 2) + 1, shape)
    tolerance = 0.03
    limit = tolerance * hypot(shape[0] * spacing[0], shape[1] * spacing[1])
    pair = [torch.from_numpy(mask)[None, None] for mask in (found, true)]
    hd95 = compute_hausdorff_distance(*pair, include_background=True, percentile=95, spacing=spacing)
    nsd = compute_surface_dice(*pair, class_thresholds=[limit], include_background=True, spacing=spacing)
    ours = border_scores(found, true, tolerance, spacing)
    assert ours.hd95 == pytest.approx(float(hd95), abs=1e-5)
    assert ours.nsd == pytest.approx(float(nsd), abs=1e-6)
    assert 0 < ours.nsd < 1
