"""The sweep over 256 thresholds: numbers by hand, the literal loop, and pysodmetrics."""

import numpy as np
import py_sod_metrics
import pytest

from pipeline.metrics.segmentation.swept import swept_dice_iou
from tests.reference import swept_literal


def drawn(seed: int, size: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A lesion and a map that half follows it."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:size, :size] - size / 2
    true = row**2 + column**2 < (size * rng.uniform(0.1, 0.4)) ** 2
    return (0.5 * true + rng.random((size, size)) * rng.uniform(0.3, 0.6)).astype(np.float32) / 1.2, true


def test_perfect_mask_loses_only_the_threshold_that_marks_everything() -> None:
    true = np.zeros((10, 10), bool)
    true[:2, :5] = True  # a tenth of the image
    dice, iou = swept_dice_iou(true.astype(np.float32), true)
    assert dice == pytest.approx((255 + 2 * 10 / (10 + 100)) / 256)
    assert iou == pytest.approx((255 + 10 / 100) / 256)


def test_three_levels_by_hand() -> None:
    chance, true = np.array([[0.2, 0.6, 0.4, 0.2]]), np.array([[False, True, True, False]])
    # Stretched to 0, 1, 0.5, 0. Threshold 0: all four; 1 to 127 of 255: the two right ones; 128 to 255: one of them.
    dice, iou = swept_dice_iou(chance, true)
    assert dice == pytest.approx((4 / 6 + 127 + 128 * 2 / 3) / 256)
    assert iou == pytest.approx((2 / 4 + 127 + 128 * 1 / 2) / 256)


@pytest.mark.parametrize("chance", [np.zeros((4, 4)), np.full((4, 4), 0.7), np.eye(4)])
def test_image_without_a_lesion_scores_nothing_whatever_was_found(chance: np.ndarray) -> None:
    assert swept_dice_iou(chance, np.zeros((4, 4), bool)) == (0.0, 0.0)


def test_constant_map_is_not_stretched() -> None:
    true = np.eye(4, dtype=bool)
    # Everything is marked by the thresholds 0 to 127 of 255, nothing by the others.
    assert swept_dice_iou(np.full((4, 4), 0.5), true)[0] == pytest.approx(128 / 256 * 2 * 4 / (4 + 16))


def test_stretching_makes_doubt_count_as_certainty() -> None:
    chance, true = drawn(0)
    assert swept_dice_iou(0.001 * chance, true) == pytest.approx(swept_dice_iou(chance, true), abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_histograms_give_what_the_loop_over_thresholds_gives(seed: int) -> None:
    chance, true = drawn(seed)
    assert swept_dice_iou(chance, true) == pytest.approx(swept_literal.swept(chance, true), abs=1e-12)


def test_pysodmetrics_gives_the_same_means() -> None:
    handlers = {
        "dice": py_sod_metrics.DICEHandler(with_dynamic=True, with_adaptive=False),
        "iou": py_sod_metrics.IOUHandler(with_dynamic=True, with_adaptive=False),
    }
    reference = py_sod_metrics.FmeasureV2(handlers)
    ours = []
    for seed in range(8):
        chance, true = drawn(seed)
        grey = np.round(chance * 255).astype(np.uint8)  # as the published code writes predictions
        reference.step(pred=grey, gt=true.astype(np.uint8) * 255)
        ours.append(swept_dice_iou(grey / 255, true))
    theirs = [reference.get_results()[name]["dynamic"].mean() for name in ("dice", "iou")]
    assert np.mean(ours, axis=0) == pytest.approx(theirs, abs=1e-12)
