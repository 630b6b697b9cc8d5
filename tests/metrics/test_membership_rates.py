"""AUC, members found at few false positives, and their intervals: against scikit-learn, literal counts, simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from sklearn.metrics import roc_auc_score

from pipeline.metrics.statistics import membership, proportion
from pipeline.metrics.statistics.grouped import Units
from pipeline.metrics.statistics.membership import Side, evaluate
from tests.reference import membership_literal as literal

Array = NDArray[np.float64]


def side(scores: Array, groups: list[str] | None = None) -> Side:
    names = groups or [f"image_{k}" for k in range(len(scores))]
    return Side(np.asarray(scores, float), Units(tuple(names), groups is not None))


def drawn(members: int, controls: int, shift: float, seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, members), rng.normal(0, 1, controls)


@pytest.mark.parametrize("digits", [8, 0])  # without and with ties
@pytest.mark.parametrize(("members", "controls"), [(40, 25), (700, 300)])
def test_auc_is_scikit_learns(members: int, controls: int, digits: int) -> None:
    """Also of a bootstrap sample, whose counts are weights."""
    rng = np.random.default_rng(3)
    one, other = (scores.round(digits) for scores in drawn(members, controls, 0.4, 1))
    truth, scores = np.repeat([1, 0], [members, controls]), np.concatenate([one, other])
    found = evaluate(side(one), side(other), 200, rng)
    assert found.auc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    counts = rng.integers(0, 4, (1, members)), rng.integers(0, 4, (1, controls))
    weighted = roc_auc_score(truth, scores, sample_weight=np.concatenate([*counts], axis=1)[0])
    assert membership.weighted_auc(one, other, *counts)[0] == pytest.approx(weighted, abs=1e-12)


@pytest.mark.parametrize("rate", [0.05, 0.01, 0.001])
@pytest.mark.parametrize("controls", [15, 20, 99, 100, 199, 1000])
def test_found_members_are_the_literal_count(controls: int, rate: float) -> None:
    for digits in (8, 1):
        one, other = (scores.round(digits) for scores in drawn(60, controls, 1.0, controls))
        found = {f.rate: f for f in evaluate(side(one), side(other), 200, np.random.default_rng(0)).found}[rate]
        expected = literal.found(one.tolist(), other.tolist(), rate)
        assert found.share == (None if expected is None else pytest.approx(expected))
        assert (found.reason is None) == (expected is not None)
        if expected is not None:
            counts = np.ones((1, 60), int), np.ones((1, controls), int)
            assert membership.weighted_share(one, other, rate, *counts)[0] == pytest.approx(expected)
            assert (other > found.threshold).sum() <= found.allowed == int(rate * controls + 1e-9)


def test_a_rate_that_the_controls_cannot_resolve_is_refused() -> None:
    """199 controls allow one false positive at 1 %, and none at 0.1 %."""
    found = evaluate(*map(side, drawn(50, 199, 1.0, 0)), 200, np.random.default_rng(0)).found
    assert [one.allowed for one in found] == [9, 1, 0]
    assert found[2].share is found[2].exact is found[2].threshold is None
    assert found[2].reason == "0.1% false positives need at least 1000 controls; there are 199"


@pytest.mark.parametrize(("members", "controls"), [(3, 40), (40, 3)])
def test_few_units_have_no_interval(members: int, controls: int) -> None:
    """However far apart the scores are, because a bootstrap of three of them repeats their order."""
    found = evaluate(*map(side, drawn(members, controls, 100.0, 0)), 200, np.random.default_rng(0))
    assert (found.auc, found.interval.low, found.interval.high) == (1.0, None, None)
    which = "training" if members < controls else "held-out"
    assert found.interval.reason == f"an interval needs at least 6 {which} images; found 3"
    patients = side(np.arange(40.0), ["a", "b"] * 20)
    reason = evaluate(patients, patients, 200, np.random.default_rng(0)).interval.reason
    assert reason == "an interval needs at least 6 training groups (such as patients); found 2"


@pytest.mark.parametrize("count", [0, 3, 20])
def test_exact_intervals_are_those_of_clopper_and_pearson(count: int) -> None:
    reference = stats.binomtest(count, 20).proportion_ci(0.95, method="exact")
    assert proportion.exact_interval(count, 20) == pytest.approx((reference.low, reference.high), abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.5, 1.2])
def test_the_interval_is_as_wide_as_hanley_and_mcneil_say(shift: float) -> None:
    """Their formula, for exponential scores, is near the truth for normal ones too: within 15 % of the bootstrap's."""
    widths, expected = [], []
    for seed in range(10):
        found = evaluate(*map(side, drawn(150, 200, shift, seed)), 1000, np.random.default_rng(seed))
        assert found.interval.low is not None and found.interval.high is not None
        widths.append((found.interval.high - found.interval.low) / 2)
        expected.append(1.96 * literal.hanley_mcneil(found.auc, 150, 200))
    assert np.mean(widths) == pytest.approx(np.mean(expected), rel=0.15)


def test_a_hundred_members_give_half_a_width_of_six_to_seven_hundredths() -> None:
    assert 1.96 * literal.hanley_mcneil(0.5, 100, 199) == pytest.approx(0.069, abs=0.001)
    assert 1.96 * literal.hanley_mcneil(0.5, 100, 801) == pytest.approx(0.060, abs=0.001)


def grouped(patients: int, each: int, rng: np.random.Generator) -> tuple[Array, list[str]]:
    """Scores that are nearly those of the patient."""
    means = rng.normal(0, 1, patients).repeat(each)
    return means + rng.normal(0, 0.2, len(means)), [f"p{k // each}" for k in range(len(means))]


def test_intervals_cover_the_truth_by_patients_and_not_by_images() -> None:
    """300 null studies of 2 x 30 patients with 6 images each, where the truth is 0.5."""
    covered = {"patients": 0, "images": 0}
    for seed in range(300):
        rng = np.random.default_rng(seed)
        (one, ones), (other, others) = grouped(30, 6, rng), grouped(30, 6, rng)
        for name, sides in {
            "patients": (side(one, ones), side(other, others)),
            "images": (side(one), side(other)),
        }.items():
            interval = evaluate(*sides, 200, rng, rates=()).interval
            assert interval.low is not None and interval.high is not None
            covered[name] += interval.low <= 0.5 <= interval.high
    assert covered["patients"] / 300 > 0.9
    assert covered["images"] / 300 < 0.7


def test_one_patient_gives_no_interval_but_the_reason() -> None:
    found = evaluate(side(np.arange(4.0), ["a"] * 4), side(np.arange(30.0)), 200, np.random.default_rng(0))
    assert found.interval.low is None
    assert found.interval.reason == "an interval needs at least 6 training groups (such as patients); found 1"


def test_bad_scores_are_refused() -> None:
    good, rng = side(np.arange(5.0)), np.random.default_rng(0)
    with pytest.raises(ValueError, match="1 control scores are not finite"):
        evaluate(good, side(np.array([1, np.nan])), 200, rng)
    with pytest.raises(ValueError, match="there is no member to attack"):
        evaluate(side(np.empty(0)), good, 200, rng)
