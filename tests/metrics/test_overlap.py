"""Dice and IoU, with numbers counted by hand."""

import numpy as np
import pytest

from pipeline.metrics.segmentation import overlap
from pipeline.segmentation.scoring import image_scores
from pipeline.stages.segment.protocol import METRICS


def masks(*rows: str) -> np.ndarray:
    return np.array([[letter == "#" for letter in row] for row in rows])


def chances(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """Probabilities [K, H, W] that are sure of these labels."""
    return np.moveaxis(np.eye(num_classes, dtype=np.float32)[labels], -1, 0)


def test_two_pixels_in_common_of_three_and_four() -> None:
    found, true = masks("##.", "#..", "..."), masks("##.", "...", ".##")
    assert overlap.dice(found, true) == pytest.approx(2 * 2 / (3 + 4))
    assert overlap.iou(found, true) == pytest.approx(2 / 5)


def test_nothing_there_and_nothing_found_is_perfect() -> None:
    empty = masks("..", "..")
    assert overlap.dice(empty, empty) == 1
    assert overlap.iou(empty, empty) == 1


@pytest.mark.parametrize("pair", [("..", "#."), ("#.", ".."), ("#.", ".#")])
def test_disjoint_masks_score_nothing_even_where_one_is_empty(pair: tuple[str, str]) -> None:
    found, true = masks(pair[0]), masks(pair[1])
    assert overlap.dice(found, true) == 0
    assert overlap.iou(found, true) == 0


def test_leading_axes_are_images() -> None:
    found = np.stack([masks("##", ".."), masks("..", "..")])
    true = np.stack([masks("#.", "#."), masks("..", "..")])
    assert overlap.dice(found, true).tolist() == [0.5, 1]
    assert overlap.iou(found, true).tolist() == [pytest.approx(1 / 3), 1]


def test_each_foreground_class_is_a_mask_of_its_own() -> None:
    labels = np.array([[0, 1, 2], [2, 2, 1]], np.uint8)
    one, two = overlap.foreground_masks(labels, 3)
    assert one.sum() == 2
    assert two.sum() == 3
    assert not (one & two).any()


def test_scores_of_an_image_are_means_over_its_foreground_classes() -> None:
    true = np.array([[1, 1, 2, 0]], np.uint8)
    found = np.array([[1, 0, 2, 2]], np.uint8)  # Dice 2/3 for both classes, IoU 1/2 for both
    scores = image_scores(chances(found, 3), true)
    assert scores["area"] == 0.75
    assert scores["dice"] == scores["dice_1"] == scores["dice_2"] == pytest.approx(2 / 3, abs=1e-6)
    assert scores["iou"] == scores["iou_1"] == scores["iou_2"] == 0.5


def test_a_binary_image_has_no_columns_per_class() -> None:
    scores = image_scores(chances(np.zeros((2, 2), np.uint8), 2), np.ones((2, 2), np.uint8))
    assert set(scores) == {"area", *METRICS}


def test_classes_in_neither_mask_are_no_part_of_the_mean_over_occurring_classes() -> None:
    true = np.array([[0, 1], [0, 0]])
    assert overlap.mean_over_occurring(overlap.dice, np.zeros_like(true), true, 5) == 0
    assert overlap.mean_over_occurring(overlap.dice, np.array([[0, 1], [2, 0]]), true, 5) == 0.5
    assert overlap.mean_over_occurring(overlap.iou, np.array([[1, 1], [0, 0]]), true, 5) == 0.5
    assert np.isnan(overlap.mean_over_occurring(overlap.dice, 0 * true, 0 * true, 5))


def test_the_endpoint_of_segmenters_keeps_the_documented_rule_for_absent_classes() -> None:
    true = np.array([[0, 1], [0, 0]])
    assert overlap.mean_dice(np.zeros_like(true), true, 5) == 0.75
