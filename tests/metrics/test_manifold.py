"""Facts of precision, recall, density and coverage."""

import numpy as np
import pytest
from prdc import compute_prdc

from pipeline.metrics.images import manifold
from pipeline.metrics.images.manifold import NAMES, prdc, prdc_without
from pipeline.metrics.statistics.resampling import jackknife_interval
from tests.reference.manifold_literal import prdc_literal


def rows(seed: int, n: int, dimension: int = 6, shift: float = 0.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(n, dimension)) + shift).astype(np.float32)


def test_points_on_a_line_by_hand() -> None:
    real, fake = np.array([[0.0], [1], [3], [7]]), np.array([[0.5], [5], [20]])
    # k = 1. Real radii 1, 1, 2, 4; fake radii 4.5, 4.5, 15. 5 lies on the edge of the ball of 3: outside.
    # 0.5 is in the balls of 0 and 1, 5 in that of 7, 20 in none; every real point is near 0.5 or 5; 3 has no fake.
    assert prdc(real, fake, 1) == pytest.approx({"precision": 2 / 3, "recall": 1, "density": 1, "coverage": 3 / 4})


@pytest.mark.parametrize("k", [1, 3, 5])
def test_it_equals_the_loop_over_pairs(k: int) -> None:
    real, fake = rows(0, 23), rows(1, 17, shift=0.7)
    assert prdc(real, fake, k) == pytest.approx(prdc_literal(real, fake, k), abs=1e-12)


@pytest.mark.parametrize(("n", "m", "dimension"), [(40, 40, 2), (120, 90, 64), (700, 600, 16), (7, 7, 3)])
def test_it_equals_the_authors_package(n: int, m: int, dimension: int) -> None:
    for seed in range(3):
        real, fake = rows(seed, n, dimension), rows(seed + 10, m, dimension, shift=0.2)
        fake[: seed * 2] = real[: seed * 2]  # copies, too
        assert prdc(real, fake, 5) == pytest.approx(compute_prdc(real, fake, 5), abs=1e-12)


def test_blocks_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = rows(0, 30), rows(1, 30, shift=0.4)
    groups = np.arange(30) % 4
    whole, parts = prdc(real, fake, 3), prdc_without(real, fake, 3, groups, groups)
    monkeypatch.setattr(manifold, "BLOCK", 7)
    assert prdc(real, fake, 3) == whole
    assert all((prdc_without(real, fake, 3, groups, groups)[name] == parts[name]).all() for name in NAMES)


@pytest.mark.parametrize("groups", [np.arange(31) % 20, np.arange(31) // 8])
def test_without_a_group_is_what_the_other_rows_give(groups: np.ndarray) -> None:
    real, fake = rows(2, 31), rows(3, 31, shift=0.3)
    without = prdc_without(real, fake, 5, groups, groups)
    for group in range(groups.max() + 1):
        kept = groups != group
        expected = prdc(real[kept], fake[kept], 5)
        assert {name: without[name][group] for name in NAMES} == pytest.approx(expected, abs=1e-12)


def test_sets_far_apart_share_nothing_and_a_set_reaches_itself() -> None:
    real = rows(0, 40)
    assert prdc(real, rows(1, 40, shift=100), 5) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}
    own = prdc(real, real, 5)
    assert (own["precision"], own["recall"], own["coverage"]) == (1, 1, 1)


def test_one_kind_only_is_precise_but_covers_little() -> None:
    both = np.concatenate([rows(0, 30), rows(1, 30, shift=50)])
    shares = prdc(both, rows(2, 60), 5)  # the second kind is missing
    assert shares["precision"] > 0.9
    assert shares["coverage"] <= 0.5
    assert shares["recall"] <= 0.5


def test_the_jackknife_finds_the_spread_of_new_draws() -> None:
    groups, found, widths = np.arange(100) % 20, [], []
    for seed in range(60):
        real, fake = rows(2 * seed, 100, 3), rows(2 * seed + 1, 100, 3, shift=0.5)
        without = prdc_without(real, fake, 5, groups, groups)
        values = prdc(real, fake, 5)
        ends = {name: jackknife_interval(values[name], without[name].item, 20) for name in NAMES}
        found.append([values[name] for name in NAMES])
        widths.append([(ends[name][1] - ends[name][0]) / 2 / 2.093 for name in NAMES])  # t of 19 degrees of freedom
    ratio = np.sqrt(np.mean(np.square(widths), axis=0)) / np.std(found, axis=0)
    assert (ratio > 0.75).all(), ratio
    assert (ratio < 1.8).all(), ratio
