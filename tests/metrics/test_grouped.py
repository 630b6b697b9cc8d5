"""Facts of intervals over whole units (patients) of unequal size."""

import numpy as np
import pytest

from pipeline.metrics.images import mmd
from pipeline.metrics.images.frechet import frechet_distance, without_blocks
from pipeline.metrics.images.kernel import cubic
from pipeline.metrics.images.similarity import bootstrap_pairs
from pipeline.metrics.statistics.grouped import (
    Blocks,
    Interval,
    Units,
    blocks_by_position,
    blocks_by_unit,
    jackknife,
    labels_of,
    percentile,
)
from pipeline.metrics.statistics.resampling import bootstrap_means, jackknife_interval


def units(*counts: int, prefix: str = "p") -> Units:
    return Units(tuple(f"{prefix}{k:03d}" for k, count in enumerate(counts) for _ in range(count)), True)


def patients(rng: np.random.Generator, count: int) -> tuple[np.ndarray, Units]:
    """Rows of patients with 1 to 15 images each, which differ little within a patient."""
    of = units(*rng.integers(1, 16, count))
    return (rng.normal(size=(count, 3))[labels_of(of.names)] + 0.3 * rng.normal(size=(len(of.names), 3))), of


def test_shares_by_hand() -> None:
    # blocks of 1 and 3 of 4 rows, value 2, without them 3 and 1: pseudo-values (2 - 3/4 3) 4 = -1, (2 - 1/4) 4/3 = 7/3;
    # centre 1/4 (-1) + 3/4 7/3 = 3/2; SE^2 = (1/3 (5/2)^2 + 3 (5/6)^2) / 2 = 25/12
    low, high = jackknife_interval(2.0, [3.0, 1.0].__getitem__, 2, shares=np.array([0.25, 0.75]))
    assert (high - 2) == pytest.approx(12.7062 * np.sqrt(25 / 12), rel=1e-5)
    assert low + high == pytest.approx(4)


def test_equal_shares_are_the_plain_jackknife() -> None:
    estimates = np.random.default_rng(0).normal(size=7)
    plain = jackknife_interval(0.3, lambda k: float(estimates[k]), 7)
    assert jackknife_interval(0.3, lambda k: float(estimates[k]), 7, shares=np.full(7, 1 / 7)) == pytest.approx(plain)


def test_a_bias_in_one_over_n_is_no_spread_however_large_a_block_is() -> None:
    sizes = np.array([1, 2, 7, 10])
    low, high = jackknife_interval(5 / 20, lambda k: 5 / (20 - sizes[k]), 4, shares=sizes / 20)
    assert high - low == pytest.approx(0, abs=1e-12)
    plain = jackknife_interval(5 / 20, lambda k: 5 / (20 - sizes[k]), 4)
    assert plain[1] - plain[0] > 0.3


def test_blocks_hold_whole_units_and_rows_of_both_sets() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        numbers = [rng.integers(0, 30, rng.integers(4, 80)) for _ in range(2)]
        first, second = (Units(tuple(f"p{k}" for k in side), True) for side in numbers)
        found = blocks_by_unit(first, second)
        assert found.count == min(20, len(first), len(second))
        assert set(found.first) == set(found.second) == set(range(found.count))
        of_unit = set(zip((*first.names, *second.names), (*found.first, *found.second), strict=True))
        assert len(of_unit) == len(set(first.names) | set(second.names))


def test_blocks_are_even_where_units_are() -> None:
    found = blocks_by_unit(units(*[3] * 40), units(*[3] * 40))
    assert np.bincount(found.first).tolist() == [6] * 20
    assert found.shares == pytest.approx(np.full(20, 0.05))
    assert found.n_groups == 40


def test_positions_are_dealt_out_in_turn() -> None:
    found = blocks_by_position(45, 30)
    assert found.first.tolist() == [k % 20 for k in range(45)]
    assert found.second.tolist() == [k % 20 for k in range(30)]
    assert (found.count, found.shares, found.n_groups) == (20, None, None)


def test_too_few_units_or_rows_say_so() -> None:
    one = blocks_by_unit(units(5), units(2, 3))
    assert jackknife(1.0, float, one) == Interval(
        None, None, 1, "the images come from 1 group (such as a patient); an interval needs at least two"
    )
    lopsided = blocks_by_unit(units(9, 1), units(9, 1))
    reason = "without its largest group a set has 1 images; the statistic needs 2"
    assert jackknife(1.0, float, lopsided) == Interval(None, None, 2, reason)
    assert jackknife(1.0, float, lopsided, least=1).reason is None
    mask = Units(("a", "a"), False)
    assert percentile(np.ones(3), mask).reason == "the images come from 1 mask; an interval needs at least two"
    assert percentile(np.ones(3), units(1, 1, 1), units(4)).n_groups == 1
    assert percentile(np.ones(3), units(1, 1, 1), units(4, 1)) == Interval(1.0, 1.0, 2)


def test_clipping_leaves_an_interval_that_is_not_there() -> None:
    assert Interval(-1.0, 9.0, 3).clipped(0.0, 5.0) == Interval(0.0, 5.0, 3)
    assert Interval(None, None, 1, "why").clipped(0.0, 5.0) == Interval(None, None, 1, "why")


def test_the_interval_holds_the_truth_where_the_one_over_rows_does_not() -> None:
    """The distance of two means 3 apart, 25 patients per set, 200 sets: 95 % against what blocks of positions reach."""
    held = np.zeros(2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        (x, of_x), (y, of_y) = patients(rng, 25), patients(rng, 25)
        y += np.array([3, 0, 0])

        def gap(a: np.ndarray, b: np.ndarray) -> float:
            return float(b.mean(0)[0] - a.mean(0)[0])

        y_units = Units(tuple(f"y{name}" for name in of_y.names), True)
        for k, blocks in enumerate((blocks_by_unit(of_x, y_units), blocks_by_position(len(x), len(y)))):

            def without(block: int, x: np.ndarray = x, y: np.ndarray = y, blocks: Blocks = blocks) -> float:
                return gap(x[blocks.first != block], y[blocks.second != block])

            interval = jackknife(gap(x, y), without, blocks)
            held[k] += interval.low is not None and interval.high is not None and interval.low < 3 < interval.high
    assert 0.9 <= held[0] / 200 <= 0.99
    assert held[1] / 200 < 0.65


@pytest.mark.parametrize("d", [2, 40])
def test_leaving_out_unequal_blocks_of_unequal_sets_is_computing_without_them(d: int) -> None:
    rng = np.random.default_rng(d)
    real, fake = rng.normal(size=(30, d)), rng.normal(size=(21, d)) + 0.2
    blocks = blocks_by_unit(units(9, 12, 9), units(1, 4, 10, 6))
    frechet = without_blocks(real, fake, blocks.first, blocks.second)
    both = np.concatenate([real, fake])
    discrepancy = mmd.mmd2(both, mmd.without_blocks(blocks.first, blocks.second), cubic).unbiased
    for block in range(blocks.count):
        kept = real[blocks.first != block], fake[blocks.second != block]
        assert frechet(block) == pytest.approx(frechet_distance(*kept))
        alone = mmd.mmd2(np.concatenate(kept), mmd.all_rows(len(kept[0]), len(kept[1])), cubic)
        assert discrepancy[block] == pytest.approx(alone.unbiased[0])


def test_a_bootstrap_of_pairs_draws_whole_patients() -> None:
    """Four images of two patients: pairs across count if both were drawn, pairs within as often as their patient."""
    pairs = np.array([[0, 1], [0, 2], [1, 3], [2, 3]])
    values = np.array([1.0, 5.0, 5.0, 3.0])
    means = bootstrap_pairs(values, pairs, 400, np.random.default_rng(0), np.array([0, 0, 1, 1]))
    # drawn (2, 0), (0, 2) or (1, 1): there the pairs within weigh 1 - 1/2
    assert sorted(set(means.round(9))) == pytest.approx([1, 3, (0.5 * (1 + 3) + 5 + 5) / 3])


def test_pairs_of_single_images_are_drawn_as_before() -> None:
    values, pairs = np.random.default_rng(1).normal(size=6), np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3], [2, 3]])
    plain, clustered = (
        bootstrap_pairs(values, pairs, 50, np.random.default_rng(0), *each) for each in ((), (np.arange(4),))
    )
    assert (plain == clustered).all()


def test_bootstrap_intervals_of_patients_hold_the_truth() -> None:
    held = np.zeros(2)
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x, of = patients(rng, 30)
        for k, names in enumerate((of.names, range(len(x)))):
            interval = percentile(bootstrap_means(x[:, 0], list(names), 300, rng), Units(of.names, True))
            held[k] += interval.low is not None and interval.high is not None and interval.low < 0 < interval.high
    assert held[0] / 200 >= 0.87  # percentile intervals of 30 units are a little narrow
    assert held[1] / 200 < 0.65
