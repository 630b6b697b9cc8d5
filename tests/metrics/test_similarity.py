"""Facts of cosines, of pairs drawn from a set, and of the Vendi score."""

import numpy as np
import pytest

from pipeline.metrics.images.similarity import bootstrap_pairs, cosine, draw_pairs, mean_cosine, mean_cosine_without
from pipeline.metrics.images.vendi import vendi, vendi_without
from tests.reference.similarity_literal import cosine_literal, mean_cosine_literal, vendi_literal


def rows(seed: int, n: int, dimension: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, dimension)) + 0.3


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_cosines_by_hand() -> None:
    one, other = np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[4.0, 3.0], [-2.0, 0.0]])
    assert cosine(one, other) == pytest.approx([24 / 25, -1])
    assert mean_cosine(one, other) == pytest.approx((24 / 25 - 3 / 5 + 4 / 5 - 1) / 4)


def test_mean_unit_rows_give_the_mean_over_all_pairs() -> None:
    one, other = rows(0, 9), rows(1, 7)
    assert mean_cosine(one, other) == pytest.approx(mean_cosine_literal(one, other), rel=1e-12)
    expected = [cosine_literal(x, y) for x, y in zip(one[:7], other, strict=True)]
    assert cosine(one[:7], other) == pytest.approx(expected, rel=1e-12)


def test_mean_cosine_without_a_group() -> None:
    one, other, of_one, of_other = rows(0, 9), rows(1, 7), np.arange(9) // 3, np.arange(7) % 3
    without = mean_cosine_without(one, other, of_one, of_other)
    for group in range(3):
        assert without(group) == pytest.approx(mean_cosine(one[of_one != group], other[of_other != group]))


def test_all_pairs_where_they_are_few() -> None:
    assert draw_pairs(4, 6, rng()).tolist() == [[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]]
    assert draw_pairs(1, 6, rng()).shape == (0, 2)


def test_drawn_pairs_differ_and_all_are_equally_likely() -> None:
    drawn = draw_pairs(1000, 50, rng())
    assert len({tuple(pair) for pair in drawn}) == 50
    assert (drawn[:, 0] < drawn[:, 1]).all()
    assert drawn.max() < 1000
    counts = np.zeros((5, 5))
    for seed in range(1000):
        counts[tuple(draw_pairs(5, 3, rng(seed)).T)] += 1
    assert counts[np.triu_indices(5, 1)] == pytest.approx(300, abs=60)  # four standard deviations
    assert counts.sum() == 3000


def test_a_bootstrap_of_pairs_draws_members() -> None:
    pairs = draw_pairs(2, 9, rng())
    draws = bootstrap_pairs(np.array([0.5]), pairs, 400, rng())
    assert set(draws) == {0.5}
    assert 130 < len(draws) < 270  # half of the draws hold one member twice and no pair


def test_a_bootstrap_of_pairs_finds_the_spread_of_new_members() -> None:
    pairs, means, widths = draw_pairs(25, 1000, rng()), [], []
    for seed in range(80):
        places = rng(seed).normal(size=25)
        values = np.abs(places[pairs[:, 0]] - places[pairs[:, 1]])
        means.append(values.mean())
        widths.append(bootstrap_pairs(values, pairs, 300, rng(seed)).std())
    assert 0.85 < np.mean(widths) / np.std(means) < 1.35


def test_vendi_counts_kinds() -> None:
    a, b = np.array([1.0, 0, 0]), np.array([0, 2.0, 0])
    assert vendi(np.stack([a] * 4)) == pytest.approx(1)
    assert vendi(3 * np.eye(5)) == pytest.approx(5)
    # Shares 3/4 and 1/4: exp(-3/4 ln 3/4 - 1/4 ln 1/4) = (4/3)^(3/4) 4^(1/4)
    assert vendi(np.stack([a, b, a, a])) == pytest.approx((4 / 3) ** 0.75 * 4**0.25)


@pytest.mark.parametrize("dimension", [8, 30])
def test_vendi_by_columns_or_rows_is_that_of_the_whole_matrix(dimension: int) -> None:
    points = rows(0, 8, dimension)
    assert vendi(points) == pytest.approx(vendi_literal(points), rel=1e-8)
    repeated = np.concatenate([points] * 5)  # now there are more rows than columns; the shares stay
    assert vendi(repeated) == pytest.approx(vendi(points), rel=1e-9)


@pytest.mark.parametrize("dimension", [4, 40])
def test_vendi_without_a_group(dimension: int) -> None:
    points, groups = rows(1, 20, dimension), np.arange(20) % 6
    without = vendi_without(points, groups)
    for group in range(6):
        assert without(group) == pytest.approx(vendi(points[groups != group]), rel=1e-9)
