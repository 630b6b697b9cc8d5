"""Facts of bootstrap, sign flips, Holm and derangements."""

import itertools

import numpy as np
import pytest

from pipeline.metrics.paired import Noise, estimate, seed_noise, two_level_bootstrap, unpaired_noise
from pipeline.metrics.resampling import bootstrap_means, derangement, holm, percentile_interval, sign_flip_p


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_cluster_is_drawn_whole() -> None:
    means = bootstrap_means(np.array([0.0, 0.0, 1.0, 1.0]), ["a", "a", "b", "b"], 500, rng())
    assert set(means) == {0.0, 0.5, 1.0}


def test_four_equal_copies_of_each_mask_make_no_interval_narrower() -> None:
    values = rng().normal(size=30)
    single = percentile_interval(bootstrap_means(values, range(30), 2000, rng()))
    copied = percentile_interval(bootstrap_means(np.repeat(values, 4), list(np.repeat(range(30), 4)), 2000, rng()))
    assert copied == pytest.approx(single)


def test_sign_flips_of_five_gains_by_hand() -> None:
    # 2 of 32 sign patterns reach |sum| = 15
    p = sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 20000, rng())
    assert p == pytest.approx(2 / 32, abs=0.006)


def test_sign_flips_agree_with_all_patterns() -> None:
    values = np.array([0.9, -0.4, 1.3, 0.2, -0.1, 0.7])
    sums = [abs(np.dot(signs, values)) for signs in itertools.product((-1, 1), repeat=6)]
    exact = np.mean(np.array(sums) >= abs(values.sum()) - 1e-12)
    assert sign_flip_p(values, 20000, rng()) == pytest.approx(exact, abs=0.015)


def test_p_is_never_zero_and_is_one_without_any_difference() -> None:
    assert sign_flip_p(np.ones(40), 999, rng()) == pytest.approx(1 / 1000)
    assert sign_flip_p(np.zeros(5), 999, rng()) == 1


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_derangement_leaves_nothing_in_its_place(n: int) -> None:
    for seed in range(30):
        order = derangement(n, np.random.default_rng(seed))
        assert sorted(order) == list(range(n))
        assert (order != np.arange(n)).all()


def test_seed_noise_pools_arms_by_hand() -> None:
    # means over images 0, 2 (variance 2) and 5, 5 (variance 0); 2 (2 - 1) / (1 + 1/4) degrees of freedom
    noise = seed_noise([np.array([[0.0, 0.0], [2.0, 2.0]]), np.array([[4.0, 6.0], [5.0, 5.0]])])
    assert noise == Noise(1.0, 1.6)


def test_without_noise_of_seeds_the_interval_is_that_of_a_paired_t_test() -> None:
    from scipy import stats

    gains = rng().normal(1, 2, size=50)
    table = np.stack([gains] * 3)
    found = estimate(table, Noise(0.0, 12), 0.95)
    expected = stats.ttest_1samp(gains, 0)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue)


def test_without_noise_of_images_the_interval_is_that_of_the_seeds() -> None:
    table = np.array([[1.0] * 4, [2.0] * 4, [3.0] * 4])  # mean 2, variance of seeds 1, t(2) = 4.303
    found = estimate(table, Noise(0.1, 2), 0.95)
    assert found.high - found.mean == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)


def test_unpaired_noise_by_hand() -> None:
    # variances 1 and 3 with 2 degrees of freedom each: 16 / (1/2 + 9/2)
    noise = unpaired_noise(np.array([[0.0], [1.0], [2.0]]), np.sqrt(3) * np.array([[5.0], [6.0], [7.0]]))
    assert (noise.variance, noise.df) == pytest.approx((4, 3.2))


def test_both_parts_of_the_interval_add_in_squares_and_p_matches_it() -> None:
    of_seeds, of_images = np.array([[-1.0], [0.0], [1.0]]), np.linspace(-6, 6, 30)[None]
    table = 2 + of_seeds + of_images
    seeds_only, images_only = 4.3027 / np.sqrt(3), 2.0452 * of_images.std(ddof=1) / np.sqrt(30)
    found = estimate(table, Noise(0.0, 2), 0.95)
    assert found.high - 2 == pytest.approx(np.hypot(seeds_only, images_only), rel=1e-4)
    assert estimate(table, Noise(0.0, 2), 1 - found.p).low == pytest.approx(0, abs=1e-6)  # p is where 0 is reached


def test_one_seed_and_no_difference_have_limits() -> None:
    assert seed_noise([np.ones((1, 4))]) == Noise(0.0, 1.0)
    same = estimate(np.zeros((3, 4)), Noise(0.0, 2), 0.95)
    assert (same.mean, same.low, same.high, same.p) == (0, 0, 0, 1)


def test_the_bootstrap_finds_the_two_parts_of_the_variance() -> None:
    of_seeds, of_images = np.array([[-1.0], [0.0], [1.0]]), np.linspace(-3, 3, 40)[None]
    draws = two_level_bootstrap(of_seeds + of_images, 20000, rng())
    expected = of_seeds.var(ddof=1) / 3 + of_images.var() / 40
    assert draws.var() == pytest.approx(expected, rel=0.05)
    assert draws.mean() == pytest.approx(0, abs=0.03)
