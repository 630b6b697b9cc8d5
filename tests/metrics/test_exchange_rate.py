"""Learning curves and the exchange rate: against a literal version, by hand, and what is refused or left open."""

import numpy as np
import pytest

from pipeline.metrics.statistics.exchange_rate import (
    Bootstrap,
    ExchangeRate,
    Interval,
    Runs,
    exchange_rate,
    resample,
    worth,
)
from pipeline.metrics.statistics.learning_curve import Array, fit_monotone, fit_power_law
from tests.reference import learning_curve_literal as literal

SIZES = np.array([25.0, 50.0, 100.0, 200.0, 400.0, 800.0])
TRUTH = 0.85 - 0.9 * SIZES**-0.5


def noisy_means(count: int, sd: float) -> Array:
    return TRUTH + np.random.default_rng(0).normal(0, sd, (count, len(SIZES)))


def bootstrap(resamples: int = 2000, seed: int = 0) -> Bootstrap:
    return Bootstrap(resamples, 0.95, np.random.default_rng(seed))


def study(arm: float, n: int = 100, noise: float = 0.01, truth: Array = TRUTH) -> tuple[list[Runs], Runs]:
    """A curve of five seeds and 80 images whose means are exactly the truth, and an arm with a mean of `arm`."""
    rng, runs = np.random.default_rng(1), []
    for size, mean in [*zip(SIZES, truth, strict=True), (n, arm)]:
        scores = rng.normal(0, noise, (1, 5, 80)) + rng.normal(0, noise / 2, (1, 5, 1))
        runs.append(Runs(int(size), scores - scores.mean() + mean))
    return runs[:-1], runs[-1]


def rate_of(arm: float, n: int = 100, noise: float = 0.01, truth: Array = TRUTH) -> ExchangeRate:
    draws = bootstrap()
    return exchange_rate(resample(*study(arm, n, noise, truth), draws), draws)


@pytest.mark.parametrize("weights", [np.ones(6), np.array([3.0, 3.0, 3.0, 1.0, 1.0, 1.0])], ids=["equal", "unequal"])
@pytest.mark.parametrize("sd", [0.0, 0.01, 0.1])
def test_power_laws_are_those_of_curve_fit(sd: float, weights: Array) -> None:
    means = np.minimum(noisy_means(12, sd), 0.98)  # with 0.1, bounds are active
    found = fit_power_law(SIZES, means, weights)
    fits = np.stack([found.at(n) for n in SIZES], axis=1)
    losses = (weights * (fits - means) ** 2).sum(1)
    for place, row in enumerate(means):
        fit, loss = literal.fitted_power_law(SIZES, row, weights)
        assert losses[place] <= loss + 1e-7
        if abs(losses[place] - loss) < 1e-7:
            assert fits[place] == pytest.approx(fit, abs=1e-3)
    assert (found.asymptote <= 1).all() and (found.drop >= 0).all()
    assert (found.exponent >= 0.05 - 1e-12).all() and (found.exponent <= 2 + 1e-12).all()


def test_monotone_curves_are_those_of_isotonic_regression_and_pchip() -> None:
    means, weights = noisy_means(20, 0.03), np.array([3.0, 1.0, 2.0, 1.0, 1.0, 5.0])
    found = fit_monotone(SIZES, means, weights)
    for place, row in enumerate(means):
        curve = literal.monotone(SIZES, row, weights)
        for n in (25.0, 33.0, 163.0, 799.0, 800.0):
            assert found.at(n)[place] == pytest.approx(curve(n), abs=1e-12)


def test_inverses_lead_back_and_end_where_the_curve_ends() -> None:
    means, weights = noisy_means(20, 0.005), np.ones(6)
    scores = np.linspace(0.64, 0.84, 20)
    for fit in (fit_power_law(SIZES, means, weights), fit_monotone(SIZES, means, weights)):
        for place, n in enumerate(fit.inverse(scores)):
            if np.isfinite(n):
                assert fit.at(n)[place] == pytest.approx(scores[place], abs=1e-9)
            else:
                end = fit.at(SIZES[-1] if n > 0 else SIZES[0])[place]
                assert scores[place] > end if n > 0 else scores[place] < end
    curves = fit_monotone(SIZES, means, weights)
    by_brent = [literal.inverse(literal.monotone(SIZES, row, weights), SIZES, 0.75) for row in means]
    assert curves.inverse(np.full(20, 0.75)) == pytest.approx(by_brent, rel=1e-6)


def test_resampled_means_have_the_covariance_of_new_models_and_new_units() -> None:
    rng = np.random.default_rng(3)
    hardness = rng.normal(0.7, 0.1, 60)
    tables = [hardness + rng.normal(0, 0.03, 60) + rng.normal(0, sd, (20, 60)) for sd in (0.05, 0.1, 0.05, 0.2, 0.1)]
    tables = [table + rng.normal(0, 0.02, (20, 1)) for table in tables]
    runs = [Runs(n, table[None]) for n, table in zip((10, 20, 40, 80, 20), tables, strict=True)]
    drawn = resample(runs[:-1], runs[-1], bootstrap(40_000))
    means = np.column_stack([drawn.means, drawn.arm])
    wanted = literal.covariance_of_means(tables)
    # Student's t widens both parts by df / (df - 2), a twentieth here
    assert np.cov(means[1:].T) == pytest.approx(wanted, rel=0.12, abs=1e-6)
    assert means[0] == pytest.approx([table.mean() for table in tables])


def test_the_equivalent_of_an_arm_is_where_the_curve_has_its_dice() -> None:
    rate = rate_of(0.85 - 0.9 * 163**-0.5)
    assert rate.refusal is None
    assert rate.equivalent.value == pytest.approx(163, abs=1)  # a cubic between 100 and 200 is no power law
    assert rate.power_law == pytest.approx(163, abs=0.5)
    assert 110 < rate.equivalent.low < 163 < rate.equivalent.high < 260
    assert (rate.above, rate.below) == (0, 0)


def test_worthless_images_have_a_rate_of_one() -> None:
    rate = rate_of(TRUTH[2])
    assert rate.equivalent.value == pytest.approx(100)
    assert rate.equivalent.low < 100 < rate.equivalent.high


def test_nothing_is_extrapolated() -> None:
    above, below = rate_of(TRUTH[-1] + 0.02), rate_of(TRUTH[0] - 0.02, 25)
    assert above.equivalent.value == above.equivalent.high == np.inf and above.above > 0.9
    assert above.equivalent.low > 300
    assert below.equivalent.value == below.equivalent.low == -np.inf and below.below > 0.9
    curve = fit_power_law(SIZES, TRUTH[None], np.ones(6))
    with pytest.raises(ValueError, match="measured from n = 25 to 800; it has no value at 801"):
        curve.at(801)


def test_an_interval_with_many_resamples_beyond_the_curve_has_one_end() -> None:
    rate = rate_of(TRUTH[-1] - 0.001)
    assert np.isfinite(rate.equivalent.value) and rate.above > 0.1
    assert rate.equivalent.high == np.inf and np.isfinite(rate.equivalent.low)


def test_a_flat_curve_and_one_that_falls_give_no_rate() -> None:
    flat = np.array([0.6, 0.7, 0.8, 0.8002, 0.8004, 0.8006])
    assert "rises by 0.0 points, less than twice the standard error" in str(rate_of(0.8001, truth=flat).refusal)
    falling = TRUTH + np.array([0, 0, 0, 0.06, 0, 0])
    assert "falls from 200 to 400 pairs" in str(rate_of(0.77, truth=falling).refusal)


def test_the_next_labels_and_the_next_images_by_hand() -> None:
    draws = bootstrap()
    drawn = resample(*study(0.80), draws)
    found = worth(drawn, 50, draws)
    assert found is not None
    assert found.labels.value == pytest.approx(float(drawn.curve.at(150)[0]) - TRUTH[2])
    assert found.images.value == pytest.approx((0.80 - TRUTH[2]) / 2)
    assert found.labels.low < found.labels.value < found.labels.high
    assert worth(drawn, 150, draws) is None  # more images than the arm has


def test_several_draws_of_the_subset_are_what_varies() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 0.01, (4, 3, 50)) + rng.normal(0, 0.05, (4, 1, 1))
    several = Runs(50, scores)
    assert several.replicates.shape == (4, 50)
    assert several.squared_error == pytest.approx(scores.mean((1, 2)).var(ddof=1) / 4)
    two = Runs(50, scores[:2])  # say too little on their spread: what varies are the three seeds
    assert two.replicates.shape == (3, 50) and two.models == 6
    assert two.squared_error == pytest.approx(scores[:2].mean((0, 2)).var(ddof=1) / 3)


def test_what_cannot_be_fitted_is_refused() -> None:
    curve, arm = study(0.8)
    with pytest.raises(ValueError, match="same test units"):
        resample(curve, Runs(100, arm.scores[..., 1:]), bootstrap())
    with pytest.raises(ValueError, match="at least two seeds or three draws"):
        resample(curve, Runs(100, arm.scores[:, :1]), bootstrap())
    with pytest.raises(ValueError, match="at least 3 sizes above 0 that increase"):
        fit_power_law(SIZES[:2], noisy_means(1, 0)[:, :2], np.ones(2))
    with pytest.raises(ValueError, match="a mean and a weight above 0"):
        fit_monotone(SIZES, noisy_means(1, 0), np.zeros(6))


def test_percentiles_of_infinite_draws() -> None:
    draws = np.array([-np.inf] * 5 + [1.0] * 90 + [np.inf] * 5)
    assert bootstrap().interval(1.0, draws) == Interval(1.0, -np.inf, np.inf)
