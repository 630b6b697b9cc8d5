"""How often verdicts err and find what is there, by simulation through the code that judges real studies.

The default runs are few: their limits are those of docs/statistics.md plus what chance adds. The slow tests run all.
"""

import pytest

from benchmarks.calibration import GENERATORS, NEEDED, NULL, Scenario, claims, needed

LIMIT = 6  # percent of studies without an effect that may claim one
WORST = Scenario((0.0,), 5, 3.0, 12.0, 300, cells=0.9)  # of all that were simulated with five seeds
FEW = [
    WORST,
    Scenario((0.0,), 3, 1.0, 12.0, 100, cells=0.9),  # once 8 %: the spread of three seeds was subtracted to nothing
    Scenario((0.0,) * 3, 5, 3.0, 12.0, 60, cells=0.9, correlation=0.8, noisy_arms="reference"),
    Scenario((0.0,), 5, 2.0, 12.0, 60, clustered=True, cells=0.5),
    Scenario((0.0,), 5, 3.0, 12.0, 60, skewed=True),
]
ONE_GENERATOR = [
    (Scenario((2.0,), 10), 70),
    (Scenario((2.0,), 5, cells=0.25), 70),
    (Scenario((2.0,), 5, cells=0.0), 75),
]


@pytest.mark.parametrize("scenario", FEW, ids=str)
def test_without_an_effect_few_studies_claim_one(scenario: Scenario) -> None:
    # 6 % of 150 runs are 9; 17 or more happen with probability 1 %
    assert claims(scenario, 150)["any_claim"] < 100 * 17 / 150


@pytest.mark.parametrize(("scenario", "wanted"), ONE_GENERATOR[:2], ids=str)
def test_two_points_are_found_with_300_images(scenario: Scenario, wanted: float) -> None:
    # standard error of 70 % of 300 runs: 2.6 %
    assert claims(scenario, 300)["better"] > wanted - 2.3 * 2.6


def test_trainings_of_a_generator_that_disagree_carry_no_claim() -> None:
    """Without an effect, single generators of SD 2 points would be called better or worse in a third of all studies."""
    without = Scenario((0.0,), 5, 0.5, generators=3, generator_sd=2.0, correlation=0.5)
    assert claims(without, 150)["any_claim"] < 100 * 17 / 150
    agreeing = Scenario((2.0,), 5, 0.5, generators=3, correlation=0.5)
    assert claims(agreeing, 200)["better"] > 40


def test_the_report_asks_for_as_many_images_as_simulation_does() -> None:
    assert needed(Scenario((2.0,), 10, image_sd=6.0), 200)["ratio"] == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", NULL, ids=str)
def test_claims_without_an_effect(scenario: Scenario) -> None:
    assert claims(scenario, 5000)["any_claim"] <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [one for one in GENERATORS if one.gains == (0.0,)], ids=str)
def test_claims_of_several_generators_without_an_effect(scenario: Scenario) -> None:
    assert claims(scenario, 5000)["any_claim"] <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "wanted"), ONE_GENERATOR, ids=str)
def test_two_points_are_found(scenario: Scenario, wanted: float) -> None:
    assert claims(scenario, 5000)["better"] >= wanted


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("seed_sd", [0.0, 0.5, 1.0])
def test_a_difference_of_the_margin_is_seldom_called_equivalent(seeds: int, seed_sd: float) -> None:
    assert claims(Scenario((1.0,), seeds, seed_sd, 6.0), 3000)["equivalent"] <= LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("scenario", NEEDED, ids=str)
def test_needed_images(scenario: Scenario) -> None:
    assert needed(scenario, 1000)["ratio"] == pytest.approx(1, abs=0.1)
