"""Facts of the two kernels and of discrepancies under them."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric

from pipeline.metrics.images import mmd
from pipeline.metrics.images.kernel import cubic, gaussian, unit_length
from tests.reference import mmd_literal

KERNELS = [(cubic, mmd_literal.cubic), (gaussian, mmd_literal.gaussian)]


def rows(seed: int, n: int, shift: float = 0.0, d: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)) + shift


def estimates(real: np.ndarray, fake: np.ndarray, kernel: mmd.Kernel = cubic) -> SimpleNamespace:
    found = mmd.mmd2(np.concatenate([real, fake]), mmd.all_rows(len(real), len(fake)), kernel)
    return SimpleNamespace(biased=found.biased[0], unbiased=found.unbiased[0])


@pytest.mark.parametrize(("kernel", "literal"), KERNELS)
def test_both_estimates_equal_the_sums_over_pairs(kernel: mmd.Kernel, literal: object) -> None:
    real, fake = rows(0, 9), rows(1, 7, shift=0.5)
    found = estimates(real, fake, kernel)
    assert found.unbiased == pytest.approx(mmd_literal.unbiased(real, fake, literal), rel=1e-9)
    assert found.biased == pytest.approx(mmd_literal.biased(real, fake, literal), rel=1e-9)


def test_two_points_by_hand() -> None:
    # k(x, y) = (x y + 1)^3 with x in {0, 0}, y in {1, 1}: 1 + 8 - 2 * 1
    assert estimates(np.zeros((2, 1)), np.ones((2, 1))).unbiased == pytest.approx(7)


def test_two_directions_at_a_right_angle_by_hand() -> None:
    # rows of unit length are sqrt 2 apart: 1 + 1 - 2 exp(-2 / 200)
    first, second = unit_length(np.tile([3.0, 0.0], (2, 1))), unit_length(np.tile([0.0, 0.5], (2, 1)))
    found = estimates(first, second, gaussian)
    assert found.biased == pytest.approx(2 - 2 * np.exp(-0.01), rel=1e-12)
    assert found.unbiased == pytest.approx(found.biased, rel=1e-12)


def test_the_gaussian_discrepancy_of_two_normal_distributions_is_their_closed_form() -> None:
    """E k = (s^2 / (s^2 + a^2 + b^2))^(D/2) exp(-|m1 - m2|^2 / 2 (s^2 + a^2 + b^2)) for N(m1, a^2 I), N(m2, b^2 I)."""

    def mean_kernel(a: float, b: float, gap: float) -> float:
        wide = 100 + a**2 + b**2
        return (100 / wide) ** 3 * np.exp(-6 * gap**2 / 2 / wide)  # D = 6

    expected = mean_kernel(1, 1, 0) + mean_kernel(2, 2, 0) - 2 * mean_kernel(1, 2, 0.7)
    found = [estimates(rows(k, 60), 2 * rows(1000 + k, 60) + 0.7, gaussian) for k in range(200)]
    values = np.array([each.unbiased for each in found])
    assert abs(values.mean() - expected) < 3 * values.std() / np.sqrt(200) < 0.07 * expected
    # the biased estimate adds what 60 pairs of a row with itself add: (1 - E k) / n per set
    surplus = np.mean([each.biased for each in found]) - values.mean()
    assert surplus == pytest.approx((2 - mean_kernel(1, 1, 0) - mean_kernel(2, 2, 0)) / 60, rel=0.02)


def test_the_gaussian_discrepancy_of_unit_rows_is_nearly_a_distance_of_means() -> None:
    # sigma 10 is wide: MMD^2 = |m1 - m2|^2 / 100 but for the curvature of exp
    real, fake = unit_length(rows(0, 80, d=40)), unit_length(rows(1, 80, shift=0.5, d=40))
    gap = real.mean(0) - fake.mean(0)
    assert estimates(real, fake, gaussian).biased == pytest.approx(gap @ gap / 100, rel=0.01)


def test_a_row_of_zeros_has_no_direction_and_stays() -> None:
    assert unit_length(np.array([[0.0, 0.0], [3.0, 4.0]])).tolist() == [[0.0, 0.0], [0.6, 0.8]]


def test_no_bias_where_both_sets_come_from_one_distribution() -> None:
    values = [estimates(rows(2 * k, 12), rows(2 * k + 1, 12)).unbiased for k in range(300)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error
    assert min(values) < 0  # unbiased, so it must be able to fall below 0


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    both = np.concatenate([rows(0, 23), rows(1, 18, shift=1)])
    chosen = mmd.all_rows(23, 18) + mmd.permutations(23, 18, 5, np.random.default_rng(0))
    together = mmd.mmd2(both, chosen, cubic)
    seen: list[int] = []

    def watched(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        seen.append(len(x))
        return cubic(x, y)

    monkeypatch.setattr(mmd, "BLOCK", 10)
    apart = mmd.mmd2(both, chosen, watched)
    assert seen == [10, 10, 10, 10, 1]  # rows of the kernel matrix at a time
    assert apart.biased == pytest.approx(together.biased)
    assert apart.unbiased == pytest.approx(together.unbiased)


def test_it_equals_torch_fidelity_with_the_same_subsets() -> None:
    real, fake = np.abs(rows(0, 90, d=64)), np.abs(rows(1, 70, d=64)) * 1.1
    theirs = kid_features_to_metric(
        torch.from_numpy(real), torch.from_numpy(fake), kid_subsets=20, kid_subset_size=30, rng_seed=5, verbose=False,
        kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None, kid_kernel_poly_coef0=1,
    )  # fmt: skip
    chosen = mmd.subsets(90, 70, 30, 20, np.random.RandomState(5))  # type: ignore[arg-type]  # the stream it draws from
    found = mmd.mmd2(np.concatenate([real, fake]), chosen, cubic).unbiased
    assert found.mean() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert found.std() == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-6)


def test_the_gaussian_kernel_equals_torch_fidelity_s() -> None:
    real, fake = unit_length(rows(0, 40, d=32)), unit_length(rows(1, 40, shift=0.2, d=32))
    theirs = kid_features_to_metric(
        torch.from_numpy(real), torch.from_numpy(fake), kid_subsets=1, kid_subset_size=40, rng_seed=0, verbose=False,
        kid_kernel="rbf", kid_kernel_rbf_sigma=10,
    )  # fmt: skip
    expected = theirs["kernel_inception_distance_mean"]
    assert estimates(real, fake, gaussian).unbiased == pytest.approx(expected, rel=1e-6)


def test_subsets_are_seeded_and_the_error_shrinks_with_their_number() -> None:
    both = np.concatenate([rows(0, 60), rows(1, 60, shift=0.4)])

    def drawn(count: int, seed: int) -> np.ndarray:
        return mmd.mmd2(both, mmd.subsets(60, 60, 20, count, np.random.default_rng(seed)), cubic).unbiased

    assert (drawn(50, 7) == drawn(50, 7)).all()
    assert drawn(50, 7).mean() != drawn(50, 8).mean()
    assert abs(drawn(400, 7).mean() - estimates(both[:60], both[60:]).unbiased) < 4 * drawn(400, 7).std() / 20


def test_a_subset_as_large_as_the_sets_is_the_whole_sets() -> None:
    chosen = mmd.subsets(15, 15, 15, 100, np.random.default_rng(0))
    assert len(chosen) == 1
    assert (chosen.first == mmd.all_rows(15, 15).first).all()
    assert (chosen.second == mmd.all_rows(15, 15).second).all()


def test_leaving_out_a_group_equals_computing_without_its_rows() -> None:
    real, fake, groups = rows(0, 12), rows(1, 12, shift=0.3), np.arange(12) % 5
    found = mmd.mmd2(np.concatenate([real, fake]), mmd.without_blocks(groups, groups), cubic).unbiased
    for group in range(5):
        assert found[group] == pytest.approx(estimates(real[groups != group], fake[groups != group]).unbiased)


def test_permutations_deal_all_rows_to_sets_of_the_same_sizes() -> None:
    chosen = mmd.permutations(5, 3, 50, np.random.default_rng(0))
    assert (chosen.first ^ chosen.second).all()
    assert set(chosen.first.sum(1)) == {5}
    assert 0.5 < chosen.first[:, 0].mean() < 0.75  # 5 of 8
