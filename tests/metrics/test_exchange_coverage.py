"""How often the interval of the exchange rate covers the truth, by simulation through the code of real studies.

The default runs are few, so that their limits are the 93 and 97 % of the slow test plus what chance adds.
"""

import pytest

from benchmarks.exchange_coverage import SCENARIOS, N, Scenario, coverage

LEAST, MOST, CHANCE = 93, 97, 0.8  # percent; three standard errors of 97 % in 5000 studies are 0.7
FEW = [Scenario("exponential", seeds=3), Scenario("logistic", N, images=60)]


@pytest.mark.parametrize("scenario", FEW, ids=str)
def test_most_intervals_hold_the_truth(scenario: Scenario) -> None:
    # of 150 studies, three standard errors of 95 % are 5 points
    assert coverage(scenario, 150)["coverage"] >= LEAST - 5


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_interval_covers_the_truth_as_often_as_it_says(scenario: Scenario) -> None:
    found = coverage(scenario, 5000)
    assert LEAST - CHANCE <= found["coverage"] <= MOST + CHANCE
    assert LEAST - CHANCE <= found["stated_coverage"] <= MOST + CHANCE
