"""Facts of the distances, the calibration and the tests behind the audit."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from pipeline.metrics.images import copies
from pipeline.metrics.images.copies import (
    FLIPS,
    SHIFT,
    calibrate,
    closer_share,
    evidence,
    permutation_p,
    tail_limit,
    tolerated,
)
from pipeline.metrics.statistics.proportion import wilson_interval
from tests.reference.copies_literal import feature_ratio, pixel_distance

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(6, 16, 16))


def test_pixel_distances_are_the_literal_ones() -> None:
    images = RNG.normal(size=(5, 16, 16))
    found = copies.nearest_pixels(images, TRAIN)
    literal = np.array([[pixel_distance(image, train, SHIFT) for train in TRAIN] for image in images])
    assert found.distance == pytest.approx(literal.min(1), abs=1e-5)
    assert found.index.tolist() == literal.argmin(1).tolist()


@pytest.mark.parametrize("flip", FLIPS)
def test_a_flipped_brighter_shifted_copy_has_distance_0(flip: str) -> None:
    rows, columns = np.arange(16), np.arange(16)
    turned = TRAIN[3][rows[:: -1 if flip in ("vertical", "both") else 1]]
    turned = turned[:, columns[:: -1 if flip in ("horizontal", "both") else 1]]
    found = copies.nearest_pixels(np.roll(2 * turned + 7, (SHIFT, -SHIFT), (0, 1))[None], TRAIN)
    assert (found.index[0], FLIPS[found.flip[0]]) == (3, flip)
    assert found.distance[0] == pytest.approx(0, abs=1e-6)


def test_an_even_image_is_nobody_s_copy() -> None:
    found = copies.nearest_pixels(np.ones((1, 16, 16)), TRAIN)
    assert found.distance[0] == pytest.approx(1)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = RNG.normal(size=(7, 16, 16))
    whole, rows = copies.nearest_pixels(images, TRAIN), copies.nearest_features(images[:, 0], TRAIN[:, 0], 3)
    monkeypatch.setattr(copies, "BLOCK", 3)
    assert copies.nearest_pixels(images, TRAIN).distance == pytest.approx(whole.distance, abs=1e-6)
    assert copies.nearest_features(images[:, 0], TRAIN[:, 0], 3).statistic == pytest.approx(rows.statistic, abs=1e-6)


def test_feature_distances_by_hand() -> None:
    found = copies.nearest_features(np.array([[2.0, 0.0]]), np.array([[0.0, 1.0], [3.0, 4.0], [-1.0, 0.0]]), 2)
    assert found.index.tolist() == [1]
    assert found.distance[0] == pytest.approx(np.sqrt(0.8))  # |(1, 0) - (0.6, 0.8)|
    assert found.statistic[0] == pytest.approx(np.sqrt(0.8) / ((np.sqrt(0.8) + np.sqrt(2)) / 2))


@pytest.mark.parametrize("neighbours", [2, 5, 50])
def test_feature_ratios_are_the_literal_ones(neighbours: int) -> None:
    rows, train = RNG.normal(size=(4, 8)), RNG.normal(size=(9, 8))
    found = copies.nearest_features(rows, train, neighbours)
    assert found.statistic == pytest.approx([feature_ratio(row, train, neighbours) for row in rows], rel=1e-4)


def test_an_excluded_image_is_nobody_s_original(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it were not among the training images, block by block; without its two nearest, two images are left."""
    monkeypatch.setattr(copies, "BLOCK", 2)
    images = np.concatenate([TRAIN[:3], RNG.normal(size=(2, 16, 16))])
    excluded = [[0], [1, 4], [2], [], [5]]
    found = copies.nearest_pixels(images, TRAIN, excluded)
    rows = copies.nearest_features(images[:, 0], TRAIN[:, 0], 3, excluded)
    for number, left_out in enumerate(excluded):
        left = [k for k in range(len(TRAIN)) if k not in left_out]
        alone = copies.nearest_pixels(images[number][None], TRAIN[left])
        features = copies.nearest_features(images[number][None, 0], TRAIN[left, 0], 3)
        assert found.distance[number] == pytest.approx(alone.distance[0], abs=1e-6)
        assert found.index[number] == left[alone.index[0]]
        assert rows.statistic[number] == pytest.approx(features.statistic[0], abs=1e-6)
        assert rows.index[number] == left[features.index[0]]
    few = copies.nearest_features(images[:, 0], TRAIN[:, 0], 50, [[0, 1, 2, 3]] * 5)
    assert np.isfinite(few.statistic).all() and (few.statistic > 0).all()


def test_a_crowd_of_equal_images_has_ratio_1() -> None:
    assert copies.nearest_features(np.ones((1, 3)), np.ones((4, 3)), 3).statistic[0] == 1


def test_calibration_by_hand() -> None:
    """Statistics e^0 .. e^10: median e^5, tenth at e^1, so a unit is 4; a rate this large needs no tolerance limit."""
    held = np.exp(np.arange(11.0))[:, None]
    found = calibrate(held, 0.3)  # k = floor(0.3 x 12) = 3
    assert (found.middle[0], found.unit[0]) == pytest.approx((5, 4))
    assert found.level == pytest.approx(3 / 12)
    assert found.threshold == pytest.approx(0.75)  # the third closest is at e^2
    assert found.limits() == pytest.approx([np.e**2])
    assert found.p(np.array([2.0, 1.25, 1.0, -9])) == pytest.approx([1 / 12, 2 / 12, 3 / 12, 1])


def test_evidence_is_that_of_pixels_plus_the_best_of_features() -> None:
    assert evidence(np.array([[2.0, -1.0, 3.0], [28.0, -1.5, -2.0]])) == pytest.approx([5, 26.5])
    assert evidence(np.array([[2.0], [3.0]])) == pytest.approx([2, 3])  # no feature space


def test_the_tolerated_share_by_hand() -> None:
    """Of 0.36 expected false alarms in 100 images two or more are there with probability 0.05: exp(-m) (1 + m)."""
    share = tolerated(0.01)
    assert share == pytest.approx(0.0035536, rel=1e-4)
    assert np.exp(-100 * share) * (1 + 100 * share) == pytest.approx(0.95, abs=1e-9)
    assert stats.binom.sf(1, 100, share) < 0.05  # of 100 images more than 1 %
    assert stats.binom.sf(4, 400, share) < 0.05  # of 400


def test_few_held_out_images_cannot_promise_the_rate() -> None:
    found = calibrate(np.exp(RNG.normal(size=(12, 3))), 0.01)
    assert found.level == pytest.approx(1 / 13)
    assert found.threshold >= found.held.max()


def test_the_tail_limit_by_hand() -> None:
    """0 .. 20: quantile 0.9 at 18, excesses 1 and 2; chi-square with 4 degrees exceeds 0.7107 with probability 0.95."""
    assert tail_limit(np.arange(21.0), 0.01, confidence=0.95) == pytest.approx(18 + 6 / 0.71072 * np.log(10), rel=1e-4)
    assert tail_limit(np.arange(21.0), 0.1) == -np.inf
    assert tail_limit(np.ones(5), 0.01) == -np.inf


@pytest.mark.parametrize("held", [30, 199, 400])
def test_fresh_images_are_suspects_at_most_at_the_rate(held: int) -> None:
    """Three dependent statistics of different tails; of 200 calibrations and 200 fresh images each, 5 % may fail."""
    rng, rates = np.random.default_rng(1), []
    for _ in range(200):
        drawn = rng.normal(size=(held + 200, 1)) + rng.standard_t(9, size=(held + 200, 3)) * [1, 0.1, 3]
        found = calibrate(np.exp(drawn[:held]), 0.01)
        rates.append((evidence(found.closeness(np.exp(drawn[held:]))) > found.threshold).mean())
    assert np.mean(np.array(rates) <= 0.01) >= 0.95
    assert np.mean(rates) < 0.0036


def test_no_tighter_threshold_than_the_rate_needs() -> None:
    """Of 20000 held-out images with exponential tails the threshold leaves the tolerated share, nearly."""
    drawn = np.random.default_rng(3).exponential(size=(20000, 1))
    found = calibrate(np.exp(-drawn), 0.01)
    assert 0.7 * tolerated(0.01) < (found.held > found.threshold).mean() < 1.1 * tolerated(0.01)


def test_wilson_by_hand() -> None:
    assert wilson_interval(5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    assert wilson_interval(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
    assert wilson_interval(10, 10) == pytest.approx((0.72247, 1), abs=1e-5)


def test_closer_share_by_hand() -> None:
    assert closer_share(np.array([3.0, 1.0]), np.array([2.0, 1.0])) == pytest.approx((1 + 1 + 0 + 0.5) / 4)


def test_closer_sets_have_the_smallest_p() -> None:
    first, second = RNG.normal(5, 1, 30), RNG.normal(0, 1, 40)
    assert permutation_p(first, second, 200, np.random.default_rng(0)) == 1 / 201
    assert permutation_p(second, first, 200, np.random.default_rng(0)) == 1


def test_p_is_uniform_where_the_sets_are_alike() -> None:
    rng = np.random.default_rng(2)
    p: NDArray[np.float64] = np.array(
        [permutation_p(rng.normal(size=20), rng.normal(size=30), 200, rng) for _ in range(200)]
    )
    assert stats.kstest(p, "uniform").pvalue > 0.01
