"""Facts of the Frechet distance at endlessly many images."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from pipeline.metrics.images.extrapolation import (
    Intercept,
    frechet_infinity,
    frechet_infinity_both,
    line_at_zero,
    sizes,
)
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
def test_both_sides_subsampled_find_the_distance_of_the_distributions(n: int, shift: float) -> None:
    """What is known: N(0, S) and N(m, 1.21 S) are |m|^2 + 0.01 tr S apart."""
    d, truth = 64, shift**2 + 0.01 * (np.arange(1, 65) ** -1.0).sum()
    plain, endless = [], []
    for seed in range(0, 30, 2):
        real, fake = rows(seed, n, d), rows(seed + 1, n, d, scale=1.1, shift=shift)
        plain.append(frechet_distance(real, fake))
        endless.append(frechet_infinity_both(real, fake, np.random.default_rng(seed)).value)
    bias, left = np.mean(plain) - truth, np.mean(endless) - truth
    assert bias > 6 * np.std(plain) / np.sqrt(15)
    assert abs(left) < max(0.1 * bias, 3 * np.std(endless) / np.sqrt(15))


def test_the_published_line_finds_the_distance_of_endless_synthetic_images_from_this_real_set() -> None:
    """Its target: the real set's own moments against those of the synthetic distribution."""
    d, real = 32, rows(0, 120, 32)
    target = frechet_distance(real, rows(1, 200_000, d, scale=1.1))
    found, plain = [], []
    for seed in range(2, 22):
        fake = rows(seed, 300, d, scale=1.1)
        found.append(frechet_infinity(real, fake, np.random.default_rng(seed)).value)
        plain.append(frechet_distance(real, fake))
    assert np.mean(plain) - target > 6 * np.std(plain) / np.sqrt(20)
    assert abs(np.mean(found) - target) < max(0.1 * (np.mean(plain) - target), 3 * np.std(found) / np.sqrt(20))


def test_the_published_line_keeps_the_real_set_whole() -> None:
    """By the plain formula of the distance, the whole real set at every size."""
    real, fake = rows(0, 200, 64), rows(1, 200, 64)
    rng, x = np.random.default_rng(0), [size for size in sizes(200, 64) for _ in range(1 if size == 200 else 3)]
    by_hand = [frechet_literal(real, fake[rng.choice(200, size, replace=False)]) for size in x]
    expected = line_at_zero(1 / np.array(x), np.array(by_hand)).value
    found = frechet_infinity(real, fake, np.random.default_rng(0)).value
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_small_real_set_keeps_its_bias_in_the_published_line_and_loses_it_where_both_are_drawn() -> None:
    """Two sets of one distribution, 200 images each: the one line ends near half of the distance, the other near 0."""
    pairs = [(rows(2 * k, 200, 64), rows(2 * k + 1, 200, 64)) for k in range(6)]
    plain = np.mean([frechet_distance(*pair) for pair in pairs])
    one, both = (
        np.mean([extrapolate(*pair, np.random.default_rng(0)).value for pair in pairs])
        for extrapolate in (frechet_infinity, frechet_infinity_both)
    )
    assert 0.3 * plain < one < 0.7 * plain
    assert abs(both) < 0.15 * plain


@pytest.mark.parametrize("extrapolate", [frechet_infinity, frechet_infinity_both])
def test_it_is_seeded(extrapolate: Callable[..., Intercept]) -> None:
    real, fake = rows(0, 60, 16), rows(1, 60, 16)
    values = [extrapolate(real, fake, np.random.default_rng(seed)).value for seed in (3, 3, 4)]
    assert values[0] == values[1] != values[2]
