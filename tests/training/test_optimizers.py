"""Optimisers by name, and the moving average of weights."""

import sys

import pytest
import torch

from pipeline.core.contracts import Recipe
from pipeline.core.errors import UserError
from pipeline.training import optimizers
from pipeline.training.ema import EMA

CPU = torch.device("cpu")


def test_adamw_takes_the_first_step_that_its_paper_says() -> None:
    """In the first step m / sqrt(v) is the gradient's sign: w - lr * wd * w - lr * sign."""
    weight = torch.nn.Parameter(torch.tensor([2.0, -1.0]))
    optimizer = optimizers.build(Recipe(1, learning_rate=0.1, weight_decay=0.5), [weight], CPU)
    weight.grad = torch.tensor([3.0, -7.0])
    optimizer.step()
    assert torch.allclose(weight.detach(), torch.tensor([2 - 0.1 * 0.5 * 2 - 0.1, -1 + 0.1 * 0.5 * 1 + 0.1]), atol=1e-6)


def test_eight_bit_states_need_cuda_and_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(1, 1e-3, optimizer="adamw_8bit")
    weight = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match="needs CUDA, found cpu"):
        optimizers.build(recipe, [weight], CPU)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UserError, match="package bitsandbytes"):
        optimizers.build(recipe, [weight], torch.device("cuda"))


def test_average_follows_by_hand() -> None:
    """Decays 2/11 and 3/12, then the asked 0.25: from 0 to weights 11, 4, 8."""
    weight = torch.nn.Parameter(torch.zeros(1))
    average = EMA([weight], decay=0.25)
    found = []
    for value in (11.0, 4.0, 8.0):
        weight.data.fill_(value)
        average.update()
        found.append(average.weights[0].item())
    assert found == pytest.approx([9.0, 0.25 * 9 + 0.75 * 4, 0.25 * 5.25 + 0.75 * 8])


def test_average_is_applied_for_a_while_and_survives_a_restart() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    average = EMA([weight], decay=0.25)
    weight.data.fill_(11.0)
    average.update()
    again = EMA([weight], decay=0.25)
    again.load_state_dict(average.state_dict())
    with again.applied():
        assert weight.item() == pytest.approx(9.0)
    assert weight.item() == 11.0
    assert again.weights[0].item() == pytest.approx(9.0)
    assert again.updates == 1


@pytest.mark.parametrize("sharding", ["zero2", "fsdp2"])
def test_eight_bit_states_are_not_sharded(sharding: str) -> None:
    """bitsandbytes keeps them in tensors of its own, which neither layout can deal out or gather for a checkpoint."""
    recipe = Recipe(1, 1e-3, optimizer="adamw_8bit")
    with pytest.raises(UserError, match=rf"cannot be sharded \({sharding}\); launch with gpu1, gpu8"):
        optimizers.check(recipe, torch.device("cuda"), sharding)
    optimizers.check(Recipe(1, 1e-3), CPU, sharding)
