"""Facts of the kernel distance."""

import numpy as np
import pytest

from pipeline.metrics.kernel import kernel_distance, mmd2, without_groups
from tests.reference.kernel_literal import mmd2_literal


def rows(seed: int, n: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 6)) + shift


def test_it_equals_the_sum_over_pairs() -> None:
    real, fake = rows(0, 9), rows(1, 7, shift=0.5)
    assert mmd2(real, fake) == pytest.approx(mmd2_literal(real, fake), rel=1e-12)


def test_two_points_by_hand() -> None:
    # k(x, y) = (x y + 1)^3 with x in {0, 0}, y in {1, 1}: 1 + 8 - 2 * 1
    assert mmd2(np.zeros((2, 1)), np.ones((2, 1))) == pytest.approx(7)


def test_no_bias_where_both_sets_come_from_one_distribution() -> None:
    values = [mmd2(rows(2 * k, 12), rows(2 * k + 1, 12)) for k in range(300)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0  # unbiased, so it must be able to fall below 0


def test_subsets_are_seeded_and_the_error_shrinks_with_their_number() -> None:
    real, fake = rows(0, 60), rows(1, 60, shift=0.4)
    value, error = kernel_distance(real, fake, 50, 20, np.random.default_rng(7))
    assert (value, error) == kernel_distance(real, fake, 50, 20, np.random.default_rng(7))
    assert value != kernel_distance(real, fake, 50, 20, np.random.default_rng(8))[0]
    assert abs(value - mmd2(real, fake)) < 4 * error
    _, smaller = kernel_distance(real, fake, 800, 20, np.random.default_rng(7))
    assert smaller == pytest.approx(error / 4, rel=0.4)


def test_a_subset_as_large_as_the_sets_is_the_whole_sets() -> None:
    real, fake = rows(0, 15), rows(1, 15, shift=1)
    value, error = kernel_distance(real, fake, 5, 1000, np.random.default_rng(0))
    assert value == pytest.approx(mmd2(real, fake))
    assert error == pytest.approx(0, abs=1e-12)


def test_leaving_out_a_group_equals_computing_without_its_rows() -> None:
    real, fake, groups = rows(0, 12), rows(1, 12, shift=0.3), np.arange(12) % 5
    without = without_groups(real, fake, groups)
    for group in range(5):
        assert without(group) == pytest.approx(mmd2(real[groups != group], fake[groups != group]))
