"""Facts of the schedules of the learning rate."""

import pytest
import torch

from pipeline.core.recipes import Recipe
from pipeline.training import schedules


@pytest.mark.parametrize("steps", range(1, 25))  # torch divides by zero where the rise ends at its first step, as at 10
def test_one_cycle_rises_and_falls_over_any_number_of_steps(steps: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1e-2)
    scheduler = schedules.build(optimizer, Recipe(steps, 1e-2, schedule="one_cycle"))
    rates = []
    for _ in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert all(0 < rate <= 1e-2 for rate in rates)
    if steps >= 4:
        assert rates[-1] == min(rates)
