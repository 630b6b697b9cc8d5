"""Facts of bootstrap, sign flips, Holm and derangements."""

import itertools

import numpy as np
import pytest

from pipeline.metrics.statistics import power
from pipeline.metrics.statistics.paired import (
    Noise,
    by_cluster,
    cell_noise,
    equivalence_p,
    estimate,
    half_width,
    seed_noise,
    two_level_bootstrap,
    unpaired_noise,
)
from pipeline.metrics.statistics.resampling import bootstrap_means, derangement, holm, percentile_interval, sign_flip_p
from pipeline.metrics.statistics.trend import page_trend


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
    p = sign_flip_p(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), 20000, 0)
    assert p == pytest.approx(2 / 32, abs=0.006)


def test_sign_flips_agree_with_all_patterns() -> None:
    values = np.array([0.9, -0.4, 1.3, 0.2, -0.1, 0.7])
    sums = [abs(np.dot(signs, values)) for signs in itertools.product((-1, 1), repeat=6)]
    exact = np.mean(np.array(sums) >= abs(values.sum()) - 1e-12)
    assert sign_flip_p(values, 20000, 0) == pytest.approx(exact, abs=0.015)


def test_p_is_never_zero_and_is_one_without_any_difference() -> None:
    assert sign_flip_p(np.ones(40), 999, 0) == pytest.approx(1 / 1000)
    assert sign_flip_p(np.zeros(5), 999, 0) == 1


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
    # means over images 0, 2 (variance 2) and 5, 5 (variance 0, less noise of seed x image 1 over 2 images);
    # 2 (2 - 1) / (1 + 1/4) degrees of freedom
    noise = seed_noise([np.array([[0.0, 0.0], [2.0, 2.0]]), np.array([[4.0, 6.0], [5.0, 5.0]])])
    assert noise == Noise(1.0, 1.6, 0.25, 2)
    assert (noise.unbiased, noise.variance) == (0.75, 1.0)  # of two seeds nothing is subtracted in a test


@pytest.mark.parametrize(("seeds", "kept"), [(2, 1), (3, 1), (5, 0.6), (10, 0.3)])
def test_few_seeds_keep_a_share_of_their_observed_variance(seeds: int, kept: float) -> None:
    """Subtracting all the noise of seed x image would drive the variance to 0 in half of all studies."""
    noise = Noise(total=1.0, df=seeds - 1, cells=2.0, seeds=seeds)
    assert noise.variance == pytest.approx(kept)
    assert noise.unbiased == 0
    assert Noise(total=1.0, df=seeds - 1, cells=0.1, seeds=seeds).variance == pytest.approx(max(0.9, kept))


def test_noise_of_seed_and_image_by_hand() -> None:
    # what is left after row means 5, 5 and column means 4.5, 5.5: four times 1/2, squared 1; one degree of freedom
    assert cell_noise(np.array([[4.0, 6.0], [5.0, 5.0]])) == pytest.approx(1.0)
    assert cell_noise(np.array([[1.0], [2.0], [4.0]]) + np.array([[0.0, 3.0, 5.0, 6.0]])) == pytest.approx(0)


def test_noise_of_seed_and_image_is_counted_once() -> None:
    table = rng().normal(size=(30, 400))  # nothing else: the mean's SD is 1 / sqrt(12000)
    of_images, of_seeds = half_width(table, seed_noise([table])).parts
    assert of_images.squared_error == pytest.approx(1 / 12000, rel=0.15)
    assert of_seeds.squared_error < 0.5 / 12000
    assert (of_images.df, of_seeds.df) == (399, 29)


def test_generators_add_a_part_of_their_own() -> None:
    table = np.zeros((5, 8))
    generators = np.array([[1.0], [2.0], [3.0]]) + np.zeros(8)  # variance 1, of three: t(2) = 4.303
    half = half_width(table, seed_noise([table]), generators)
    assert half.at(0.05) == pytest.approx(4.3027 / np.sqrt(3), rel=1e-4)
    assert half_width(table, seed_noise([table]), generators[:1]).at(0.05) == 0  # one generator knows no spread


def test_clusters_by_hand() -> None:
    # seed means 3 and 0; clusters a: 1, 2; b: 6; deviations summed -2 - 1 = -3 and 3, scaled by 2 / 3
    table = np.array([[1.0, 2.0, 6.0], [0.0, 0.0, 0.0]])
    assert by_cluster(table, ["a", "a", "b"]) == pytest.approx(np.array([[1.0, 5.0], [0.0, 0.0]]))
    assert by_cluster(table, ["a", "b", "c"]) == pytest.approx(table)


def test_copies_of_every_image_in_one_cluster_change_no_interval() -> None:
    table = rng().normal(size=(4, 50))
    copied = by_cluster(np.repeat(table, 3, axis=1), [f"{k:02d}" for k in np.repeat(range(50), 3)])
    assert copied == pytest.approx(table)


def test_equivalence_is_two_one_sided_tests() -> None:
    from scipy import stats

    gains = rng().normal(0.1, 1, size=40)
    half = half_width(np.stack([gains] * 3), Noise(0.0, 4))
    for margin in (0.05, 0.3, 0.6):
        above = stats.ttest_1samp(gains, -margin, alternative="greater").pvalue
        below = stats.ttest_1samp(gains, margin, alternative="less").pvalue
        assert equivalence_p(gains.mean(), half, margin) == pytest.approx(max(above, below), rel=1e-5)


def test_page_finds_order_and_nothing_else() -> None:
    # three blocks in perfect order: each of the 3! orders is as likely, 1 / 216 one-sided
    blocks = np.array([[1.0, 2, 3], [1, 5, 6], [0, 3, 9]])
    up, down = page_trend(blocks), page_trend(-blocks)
    assert (up.direction, down.direction) == ("up", "down")
    assert (up.p, down.p) == pytest.approx((2 / 216, 2 / 216))
    assert page_trend(np.array([[1.0, 2, 3], [3, 2, 1]])).p == 1


def test_power_of_a_test_without_noise_of_seeds_is_that_of_the_t_test() -> None:
    from scipy import stats

    effect, sd, n = 0.02, 0.12, 300
    limit, shift = stats.t.ppf(0.975, n - 1), effect / sd * np.sqrt(n)
    exact = stats.nct.sf(limit, n - 1, shift) + stats.nct.cdf(-limit, n - 1, shift)
    found = power.VarianceComponents(0.0, sd**2, 0.0)
    assert power.power(effect, found, 5, n, 0.05) == pytest.approx(exact, abs=0.005)
    assert power.power(0.0, found, 5, n, 0.05) == pytest.approx(0.05, abs=0.002)


def test_needed_numbers_are_the_fewest_that_suffice() -> None:
    found = power.VarianceComponents(1e-4, 0.01, 0.02)
    images = power.images_needed(0.02, found, 10, 0.05, 0.8)
    seeds = power.seeds_needed(0.02, found, 500, 0.05, 0.8)
    assert images is not None
    assert seeds is not None
    assert power.power(0.02, found, 10, images, 0.05) >= 0.8 > power.power(0.02, found, 10, images - 1, 0.05)
    assert power.power(0.02, found, seeds, 500, 0.05) >= 0.8 > power.power(0.02, found, seeds - 1, 500, 0.05)
    least = power.detectable(found, 10, images, 0.05, 0.8)
    assert least == pytest.approx(0.02, rel=0.01)


def test_power_with_several_generators_is_that_of_simulation() -> None:
    """Three generators, five seeds, 60 images, everything normal: the share of intervals that exclude 0."""
    found = power.VarianceComponents(0.5, 30.0, 20.0, generators=0.3, generator_cells=10.0)
    draw, runs, hits = rng(), 1500, 0
    for _ in range(runs):
        seeds, generators = draw.normal(0, 0.5**0.5, (5, 1)), draw.normal(0, 0.3**0.5, (3, 1, 1))
        images, cells = draw.normal(0, 30**0.5, 60), draw.normal(0, 20**0.5, (5, 60))
        table = 4 + seeds + images + cells + generators + draw.normal(0, 10**0.5, (3, 1, 60))
        over = table.mean(0)
        hits += abs(table.mean()) > half_width(over, seed_noise([over]), table.mean(1)).at(0.05)
    assert power.power(4.0, found, 5, 60, 0.05, generators=3) == pytest.approx(hits / runs, abs=0.04)


def test_no_number_of_images_makes_up_for_seeds_that_disagree() -> None:
    assert power.images_needed(0.01, power.VarianceComponents(1e-3, 0.01, 0.0), 5, 0.05, 0.8) is None


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
    draws = two_level_bootstrap((of_seeds + of_images)[None], 20000, rng())[:, 0]
    expected = of_seeds.var(ddof=1) / 3 + of_images.var() / 40
    assert draws.var() == pytest.approx(expected, rel=0.05)
    assert draws.mean() == pytest.approx(0, abs=0.03)


def test_the_bootstrap_in_parts_is_that_of_one_draw() -> None:
    tables, images, resamples = np.random.default_rng(0).normal(size=(2, 3, 1500)), 1500, 4000
    drawn, rng = two_level_bootstrap(tables, resamples, np.random.default_rng(1)), np.random.default_rng(1)
    seeds = rng.multinomial(3, np.full(3, 1 / 3), size=resamples) / 3
    weights = rng.multinomial(images, np.full(images, 1 / images), size=resamples) / images
    means = tables.mean(2)
    for arm, table in enumerate(tables):
        inner = ((seeds @ (table - means[arm][:, None])) * weights).sum(1)
        outer = means[arm].mean() + np.sqrt(3 / 2) * seeds @ (means[arm] - means[arm].mean())
        assert np.allclose(drawn[:, arm], outer + inner)


def test_the_bootstrap_draws_the_same_seeds_and_images_for_all_arms() -> None:
    table = rng().normal(size=(3, 40))
    draws = two_level_bootstrap(np.stack([table, table + 1]), 50, rng())
    assert draws[:, 1] - draws[:, 0] == pytest.approx(np.ones(50))
