"""How often comparisons by subgroup invent harm and find planted harm, through the code that judges real studies.

docs/statistics.md states the rates of the slow runs.
"""

from dataclasses import replace

import pytest

from benchmarks.subgroup_calibration import BASE, NULL, PLANTED, Split, rates


def test_random_subgroups_are_seldom_called_harmed() -> None:
    small = Split(replace(BASE, gains=(0.0,), images=120))
    # nominal: harm in 2.5 % of studies, 1 of 40; 5 or more happen with probability 0.3 %
    assert rates(small, 40)["worse"]["rate"] < 100 * 5 / 40


def test_a_planted_loss_is_found() -> None:
    large = Split(replace(BASE, gains=(2.0,), image_sd=6.0), loss=12)
    assert rates(large, 20)["found"]["rate"] >= 80


@pytest.mark.slow
@pytest.mark.parametrize("split", NULL, ids=str)
def test_no_harm_is_invented_in_200_random_splits(split: Split) -> None:
    # nominal: 5 % for any verdict, half of it for harm; 11 or more of 200 happen with probability 1 % at 2.5 %
    found = rates(split, 200)
    assert found["worse"]["rate"] <= 100 * 10 / 200
    assert found["worse"]["interval"][0] <= 2.5


@pytest.mark.slow
@pytest.mark.parametrize("split", PLANTED, ids=str)
def test_planted_losses_are_found_the_more_often_the_larger(split: Split) -> None:
    found = rates(split, 100)
    assert found["worse"]["rate"] <= 8
    if split.loss >= 12 and split.scenario.image_sd <= 6:
        assert found["found"]["rate"] >= 90
