"""The simulation of docs/statistics.md: fresh seeds take the luck of the choice out of the estimate."""

import numpy as np
import pytest

from benchmarks.selection_bias import SCENARIOS, Scenario, bias, chosen_arms


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_the_chosen_arm_looks_better_than_it_is_unless_its_seeds_are_fresh(scenario: Scenario) -> None:
    found = bias(scenario, 4000)
    assert found.selection_seeds > 0.3
    assert abs(found.fresh_seeds) < 3 * found.fresh_seeds_se
    assert found.fresh_seeds_se < 0.05


def test_without_noise_of_seeds_there_is_nothing_to_mend() -> None:
    """New images alone leave little: validation and test images differ."""
    found = bias(Scenario(0.0, 6.0), 4000)
    assert abs(found.selection_seeds) < 3 * found.selection_seeds_se


def test_the_highest_validation_mean_is_chosen_whatever_the_reference_has() -> None:
    validation = np.array([[[9.0, 9.0], [1.0, 2.0], [3.0, 1.0]], [[0.0, 0.0], [5.0, 5.0], [5.0, 5.0]]])
    assert chosen_arms(validation).tolist() == [2, 1]
