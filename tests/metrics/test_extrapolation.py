"""Facts of the Frechet distance at endlessly many images."""

import numpy as np
import pytest
from scipy import stats

from pipeline.metrics.images.extrapolation import frechet_infinity, line_at_zero, sizes
from pipeline.metrics.images.frechet import frechet_distance
from tests.reference.frechet_literal import frechet_literal


def rows(seed: int, n: int, d: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    spread = np.arange(1, d + 1) ** -0.5  # as of networks: few directions hold most of the variance
    return np.random.default_rng(seed).normal(size=(n, d)) * spread * scale + shift / np.sqrt(d)


def test_a_line_by_hand() -> None:
    # y = 1 + 2 x with residuals 1, -2, 1: slope and intercept stay, s^2 = 6 / 1, SE^2 = 6 (1/3 + 2^2 / 2)
    found = line_at_zero(np.array([1.0, 2.0, 3.0]), np.array([4.0, 3.0, 8.0]))
    assert found.value == pytest.approx(1)
    assert found.standard_error == pytest.approx(np.sqrt(14))
    assert found.half == pytest.approx(12.7062 * np.sqrt(14), rel=1e-5)  # t with one degree of freedom


def test_a_line_equals_scipy_s() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 12))
    theirs, found = stats.linregress(x, y), line_at_zero(x, y)
    assert (found.value, found.standard_error) == pytest.approx((theirs.intercept, theirs.intercept_stderr))


def test_set_sizes_are_even_in_one_over_n() -> None:
    assert sizes(1200, 100) == [1200, 1000, 857, 750, 667, 600]
    assert sizes(1200, 799)[-1] == 800  # the least rows for a covariance of full rank
    assert sizes(1200, 1100)[-1] == 840  # but a line needs a length


@pytest.mark.parametrize(("n", "shift"), [(150, 0.0), (150, 2.0), (400, 0.5)])
def test_it_finds_the_distance_of_the_distributions(n: int, shift: float) -> None:
    """What is known: N(0, S) and N(m, 1.21 S) are |m|^2 + 0.01 tr S apart."""
    d, truth = 64, shift**2 + 0.01 * (np.arange(1, 65) ** -1.0).sum()
    plain, endless = [], []
    for seed in range(0, 30, 2):
        real, fake = rows(seed, n, d), rows(seed + 1, n, d, scale=1.1, shift=shift)
        plain.append(frechet_distance(real, fake))
        endless.append(frechet_infinity(real, fake, np.random.default_rng(seed)).value)
    bias, left = np.mean(plain) - truth, np.mean(endless) - truth
    assert bias > 6 * np.std(plain) / np.sqrt(15)
    assert abs(left) < max(0.1 * bias, 3 * np.std(endless) / np.sqrt(15))


def test_one_whole_set_would_keep_half_of_the_bias() -> None:
    """Why both are drawn: the same line with the whole real set at every size does not reach 0."""
    real, fake = rows(0, 200, 64), rows(1, 200, 64)
    rng, x = np.random.default_rng(0), np.repeat(sizes(200, 64), 3)
    one_sided = [frechet_literal(real, fake[rng.choice(200, size, replace=False)]) for size in x]
    left = line_at_zero(1 / x, np.array(one_sided)).value
    assert left > 0.3 * frechet_distance(real, fake)
    assert abs(frechet_infinity(real, fake, rng).value) < 0.15 * frechet_distance(real, fake)


def test_it_is_seeded() -> None:
    real, fake = rows(0, 60, 16), rows(1, 60, 16)
    values = [frechet_infinity(real, fake, np.random.default_rng(seed)).value for seed in (3, 3, 4)]
    assert values[0] == values[1] != values[2]
