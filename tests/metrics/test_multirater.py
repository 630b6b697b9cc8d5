"""GED, CI score and HM-IoU: numbers worked out by hand, equal sets, order, empty masks."""

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.metrics.segmentation import multirater
from pipeline.metrics.segmentation.multirater import PairRule, ambiguity_scores, empty_sets
from pipeline.segmentation.params import Segment
from tests.reference import multirater_literal as literal


def masks(*rows: str) -> np.ndarray:
    """One mask of a row of pixels per text."""
    return np.array([[[letter == "#" for letter in row]] for row in rows])


RATERS = masks("##........", "####......")
SAMPLES = masks("##........", "..##......")
EMPTY, FULL = masks("...."), masks("####")
SETTINGS = {"max_steps": 1, "batch_size": 1, "learning_rate": 0.1, "seeds": [0]}


def drawn(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.random((count, 12, 9)) < rng.uniform(0, 0.7, (count, 1, 1))


def test_generalised_energy_distance() -> None:
    # IoU across: 1, 2/4; 0, 2/4. Within the samples: 1, 0, 0, 1. Between the raters: 1, 1/2, 1/2, 1.
    expected = 2 * (1 - 2 / 4) - (1 - 2 / 4) - (1 - 3 / 4)
    assert multirater.ged_squared(SAMPLES, RATERS) == pytest.approx(expected) == pytest.approx(0.25)


def test_parts_of_the_ci_score() -> None:
    found = ambiguity_scores(SAMPLES, RATERS)
    assert found.s_c == 1  # both unions are the first four pixels
    # Dice of the nearest sample: rater 1 with sample 1: 1; rater 2 with either: 2 * 2 / (4 + 2).
    assert found.d_max == pytest.approx((1 + 2 / 3) / 2)
    # Samples differ in 4 of 10 pixels, two either way: variance 0.4. Raters in 2, both one way: 0.2 - 0.2^2 = 0.16.
    assert found.d_a == pytest.approx(1 - (0.24 + 0.24) / 2)
    assert multirater.diversity_agreement(SAMPLES, RATERS, "dice") == pytest.approx(1 - abs((1 - 4 / 6) - 1))


def test_variance_of_a_pair_is_that_of_the_difference_s_pixels() -> None:
    one, other = (drawn(seed, 1)[0].astype(int) for seed in (1, 2))
    pair = np.stack([one, other]).astype(bool)
    assert multirater.pair_differences(pair) == pytest.approx(np.var(one - other))


def blobs(seed: int, count: int, side: int = 48) -> np.ndarray:
    """Discs of a few pixels near one place of an image that is much larger."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:side, :side]
    centres, radii = rng.uniform(18, 24, (count, 2)), rng.uniform(2, 6, count)
    discs = [(row - r) ** 2 + (column - c) ** 2 < radius**2 for (r, c), radius in zip(centres, radii, strict=True)]
    return np.stack(discs)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", ["variance", "variance_self", "dice", "size_variance"])
def test_each_diversity_term_is_its_public_implementation(rule: PairRule, seed: int) -> None:
    public = getattr(literal, rule)
    for samples, raters in ((drawn(seed, 5), drawn(seed + 50, 4)), (blobs(seed, 3), blobs(seed + 50, 4))):
        expected = public(samples, raters)
        assert multirater.diversity_agreement(samples, raters, rule) == pytest.approx(expected, abs=1e-12)
        if rule != "dice":
            expected = public(*literal.cropped(samples, raters))
            found = multirater.diversity_agreement(samples, raters, rule, "union")
            assert found == pytest.approx(expected, abs=1e-12)


def test_the_least_difference_with_self_pairs_is_none() -> None:
    """Samples that always differ, raters that never do: the pairs i < j see it twice, those with self-pairs once."""
    samples, raters = masks("##........", "....##...."), masks("##........", "##........")
    assert multirater.pair_differences(samples, "variance_self").min() == 0
    assert multirater.diversity_agreement(samples, raters) == pytest.approx(1 - (0.4 + 0.4) / 2)
    assert multirater.diversity_agreement(samples, raters, "variance_self") == pytest.approx(1 - (0.4 + 0) / 2)


def test_masks_of_one_size_in_different_places_differ_not_in_size_variance() -> None:
    pair = masks("##........", "....##....")
    assert multirater.pair_differences(pair, "size_variance").tolist() == [0]
    assert multirater.pair_differences(masks("##........", "#####....."), "size_variance") == pytest.approx(0.25 - 0.16)


def test_within_the_union_the_size_of_the_image_is_of_no_account() -> None:
    samples, raters = masks("#...", "####"), masks("##..", "##..")
    wide, wide_raters = (np.pad(one, ((0, 0), (5, 7), (30, 2))) for one in (samples, raters))
    rules: tuple[PairRule, ...] = ("variance", "variance_self", "size_variance")
    for rule in rules:
        within = multirater.diversity_agreement(wide, wide_raters, rule, "union")
        assert within == pytest.approx(multirater.diversity_agreement(samples, raters, rule))
        assert within < multirater.diversity_agreement(wide, wide_raters, rule) - 0.05
    assert multirater.diversity_agreement(EMPTY, EMPTY, "variance", "union") == 1


def test_a_region_of_a_rule_that_has_none_is_refused() -> None:
    with pytest.raises(UserError, match="pair_region: union is for variances; with pair_rule: dice"):
        parse(Segment, {**SETTINGS, "pair_rule": "dice", "pair_region": "union"})
    assert parse(Segment, {**SETTINGS, "pair_region": "union"}).scoring_settings()["pair_region"] == "union"
    assert "pair_region" not in parse(Segment, SETTINGS).scoring_settings()


@pytest.mark.parametrize(
    ("samples", "raters", "expected"),
    [(EMPTY, EMPTY, (1, 0, 0)), (FULL, EMPTY, (0, 1, 0)), (EMPTY, FULL, (0, 0, 1)), (FULL, FULL, (0, 0, 0))],
)
def test_the_cases_in_which_a_set_is_empty_are_told_apart(
    samples: np.ndarray, raters: np.ndarray, expected: tuple[int, int, int]
) -> None:
    """A set is empty where all its masks are; one mask that marks something is enough."""
    found = empty_sets(np.concatenate([EMPTY, samples]), np.concatenate([raters, EMPTY]))
    assert (found.empty_both, found.empty_raters, found.empty_samples) == expected


def test_largest_and_least_pair_of_three_raters() -> None:
    raters = masks("#...", "##..", "####")  # pixels of difference: 1, 3, 2, each one way
    assert sorted(multirater.pair_differences(raters)) == pytest.approx(sorted([3 / 16, 3 / 16, 4 / 16]))
    alone = multirater.diversity_agreement(masks("#..."), raters)
    assert alone == pytest.approx(1 - (4 / 16 + 3 / 16) / 2)


def test_both_forms_of_the_ci_score() -> None:
    parts = 0.8, 0.9, 0.98
    assert multirater.ci_printed(*parts) == pytest.approx(0.790, abs=5e-4)
    assert multirater.ci_harmonic(*parts) == pytest.approx(0.887, abs=5e-4)
    assert multirater.ci_harmonic(*parts) == pytest.approx(3 / sum(1 / part for part in parts))
    assert multirater.ci_printed(0, 0, 0) == multirater.ci_harmonic(0, 0, 0) == multirater.ci_harmonic(0, 1, 1) == 0


def test_matching_repeats_both_sets_to_their_least_common_multiple() -> None:
    samples, raters = masks("##.."), masks("##..", "#...")
    assert multirater.matched_iou(samples, raters) == pytest.approx((1 + 1 / 2) / 2)
    three = masks("##..", "#...", "....")  # sizes 6: raters 3 + 3, samples 2 + 2 + 2
    # Two of the first, two of the second and one of the third rest; the best: 2 x 1, 2 x 1, then one 1/2 or 1/2, 0.
    assert multirater.matched_iou(three, raters) == pytest.approx((1 + 1 + 1 + 1 + 0 + 0) / 6)


@pytest.mark.parametrize("count", [1, 4])
def test_equal_sets_are_perfect(count: int) -> None:
    raters = drawn(3, count)
    found = ambiguity_scores(raters[::-1], raters)
    assert found.ged == pytest.approx(0, abs=1e-12)
    assert [found.s_c, found.d_max, found.d_a, found.hm_iou] == pytest.approx([1] * 4)
    assert [found.ci_printed, found.ci_harmonic] == pytest.approx([1] * 2)
    doubled = ambiguity_scores(raters.repeat(2, 0), raters)
    assert [doubled.ged, doubled.hm_iou] == pytest.approx([0, 1], abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_order_is_of_no_account(seed: int) -> None:
    samples, raters = drawn(seed, 5), drawn(seed + 50, 4)
    rng = np.random.default_rng(seed)
    turned = ambiguity_scores(samples[rng.permutation(5)], raters[rng.permutation(4)])
    assert vars(turned) == pytest.approx(vars(ambiguity_scores(samples, raters)), abs=1e-12)


def test_nothing_marked_and_nothing_found_is_perfect() -> None:
    found = ambiguity_scores(EMPTY.repeat(3, 0), EMPTY.repeat(4, 0))
    assert vars(found) == dict.fromkeys(vars(found), 1.0) | {"ged": 0}


def test_found_where_no_rater_marked_anything() -> None:
    found = ambiguity_scores(FULL, EMPTY)
    assert (found.s_c, found.d_max, found.d_a, found.hm_iou) == (1, 0, 1, 0)
    assert (found.ci_printed, found.ci_harmonic, found.ged) == (0, 0, 2)
    assert ambiguity_scores(FULL, EMPTY, empty_truth="zero").s_c == 0
    assert ambiguity_scores(EMPTY, EMPTY, empty_truth="zero").s_c == 1


def test_missed_where_raters_marked_something() -> None:
    assert ambiguity_scores(EMPTY, FULL).s_c == 0
    half = ambiguity_scores(np.concatenate([EMPTY, FULL]), np.concatenate([EMPTY, FULL]))
    assert (half.ged, half.d_max, half.hm_iou) == (0, 1, 1)  # IoU of two empty masks is 1


def test_printed_form_is_never_above_the_harmonic_mean() -> None:
    for parts in np.random.default_rng(0).random((200, 3)):
        assert multirater.ci_printed(*parts) <= multirater.ci_harmonic(*parts) + 1e-12
