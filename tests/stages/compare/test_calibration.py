"""How often verdicts err and find what is there, by simulation through the code that judges real studies.

The default runs are few: their limits are those of docs/statistics.md plus what chance adds. The slow test runs all.
"""

import pytest

from benchmarks.calibration import NEEDED, NULL, Scenario, claims, needed

FEW = [
    scenario
    for scenario in NULL
    if scenario.seeds == 5
    and scenario.cells == 0.5
    and (scenario.seed_sd, scenario.image_sd) in ((0.0, 6.0), (2.0, 6.0))
    and scenario.clustered == (len(scenario.gains) > 1)
]


@pytest.mark.parametrize("scenario", FEW, ids=str)
def test_without_an_effect_few_studies_claim_one(scenario: Scenario) -> None:
    # 7.5 % of 150 runs are 11; 20 or more happen with probability 1 %
    assert claims(scenario, 150)["any_claim"] < 100 * 20 / 150


@pytest.mark.parametrize("scenario", [Scenario((2.0,), 10), Scenario((2.0,), 5, cells=0.25)], ids=str)
def test_two_points_are_found_with_300_images(scenario: Scenario) -> None:
    # 75 % of 300 runs are 225, standard error 7.5
    assert claims(scenario, 300)["better"] > 100 * (225 - 2.3 * 7.5) / 300


def test_the_report_asks_for_as_many_images_as_simulation_does() -> None:
    assert needed(Scenario((2.0,), 10, image_sd=6.0), 200)["ratio"] == pytest.approx(1, abs=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", NULL, ids=str)
def test_claims_without_an_effect(scenario: Scenario) -> None:
    assert claims(scenario, 5000)["any_claim"] <= 7.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "scenario", [Scenario((2.0,), 10), *(Scenario((2.0,), 5, cells=c) for c in (0.0, 0.25))], ids=str
)
def test_two_points_are_found(scenario: Scenario) -> None:
    assert claims(scenario, 5000)["better"] >= 75


@pytest.mark.slow
@pytest.mark.parametrize("scenario", NEEDED, ids=str)
def test_needed_images(scenario: Scenario) -> None:
    assert needed(scenario, 5000)["ratio"] == pytest.approx(1, abs=0.1)
