"""The judge's maps: what a file holds of probabilities, and what it loses."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.data import judge_maps


def probabilities(classes: int) -> np.ndarray:
    logits = 4 * np.random.default_rng(classes).standard_normal((classes, 6, 5))
    shares = np.exp(logits)
    return shares / shares.sum(0)


@pytest.mark.parametrize("classes", [2, 3, 4])
def test_a_file_gives_back_the_probabilities_to_a_tenth_of_log_odds(classes: int, tmp_path: Path) -> None:
    true = probabilities(classes)
    (tmp_path / "map.png").write_bytes(judge_maps.encode(judge_maps.levels_of(true)))
    levels = judge_maps.read(tmp_path / "map.png", classes)
    assert levels.shape == true.shape
    found = judge_maps.probabilities_of(levels)
    true = np.clip(true, 1 / (1 + np.exp(12.7)), 1 / (1 + np.exp(-12.7)))
    assert np.abs(np.log(found / (1 - found)) - np.log(true / (1 - true))).max() <= 0.05 + 1e-6
    assert np.allclose(-np.log(found), -np.log(true), rtol=0.052, atol=0)


def test_a_certain_judge_is_cut_off_and_no_number_overflows() -> None:
    levels = judge_maps.levels_of(np.array([[[0.0, 1.0]], [[1.0, 0.0]]], np.float32))
    assert levels.tolist() == [[[1, 255]], [[255, 1]]]
    assert judge_maps.cross_entropies()[255] == pytest.approx(np.log1p(np.exp(-12.7)))
    assert judge_maps.cross_entropies()[judge_maps.ZERO] == pytest.approx(np.log(2))


def test_two_classes_are_one_plane_and_equal_maps_equal_bytes(tmp_path: Path) -> None:
    levels = judge_maps.levels_of(probabilities(2))
    (tmp_path / "map.png").write_bytes(judge_maps.encode(levels))
    assert np.array_equal(judge_maps.read(tmp_path / "map.png", 2), levels)
    assert judge_maps.encode(levels) == judge_maps.encode(levels.copy())


def test_the_level_of_each_pixels_own_class() -> None:
    levels = np.array([[[10, 20]], [[30, 40]]], np.uint8)
    assert judge_maps.of_labels(levels, np.array([[1, 0]], np.uint8)).tolist() == [[30, 20]]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "map.png").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"map\.png cannot be decoded .*run the stage score again"):
        judge_maps.read(tmp_path / "map.png", 2)
