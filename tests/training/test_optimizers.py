"""Optimisers by name, and the moving average of weights."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.core.recipes import EMAWarmUpRecipe, Recipe
from pipeline.core.runtime import Runtime
from pipeline.training import optimizers
from pipeline.training.ema import EMA, decay_at
from pipeline.training.strategy import Strategy

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


def literal_ema_pytorch(values: list[float], decay: float, after: int, inv_gamma: float, power: float) -> list[float]:
    """The package's update(), line by line, for one weight that starts at 0: the counter moves before the decay."""
    step, average, begun, found = 0, 0.0, False, []
    for value in values:
        before, step = step, step + 1
        if before <= after:
            average = value
        else:
            if not begun:
                average, begun = value, True
            epoch = max(step - after - 1, 0.0)
            now = 0.0 if epoch <= 0 else min(max(1 - (1 + epoch / inv_gamma) ** -power, 0.0), decay)
            average += (value - average) * (1 - now)
        found.append(average)
    return found


@pytest.mark.parametrize(("after", "inv_gamma", "power"), [(0, 1.0, 0.9), (3, 1.0, 0.95), (2, 4.0, 2 / 3)])
def test_average_warms_up_as_in_ema_pytorch(after: int, inv_gamma: float, power: float) -> None:
    values = [float(value) for value in np.random.default_rng(0).normal(size=30)]
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    average = EMA([weight], 0.9, EMAWarmUpRecipe(after, inv_gamma, power))
    found = []
    for value in values:
        weight.data.fill_(value)
        average.update()
        found.append(average.weights[0].item())
    assert found == pytest.approx(literal_ema_pytorch(values, 0.9, after, inv_gamma, power), rel=1e-12)
    assert found[after + 1] == values[after + 1] != found[after + 2]


def test_average_without_warm_up_keeps_its_decay() -> None:
    assert [decay_at(update, 0.9999, "none") for update in (1, 2, 10**6)] == [0.9999] * 3


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


FORMATS = [torch.channels_last, torch.contiguous_format]


def stepped(convolution: torch.nn.Conv2d) -> Strategy:
    """A strategy after one step of AdamW."""
    strategy = Strategy(convolution, Recipe(2, 1e-3), Runtime.alone())
    convolution(torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    strategy.step()
    return strategy


@pytest.mark.parametrize(("saved", "resumed"), [FORMATS, FORMATS[::-1], FORMATS[:1] * 2])
def test_resumed_moments_have_the_strides_of_their_weights(
    saved: torch.memory_format, resumed: torch.memory_format, tmp_path: Path
) -> None:
    """A fused step on CUDA refuses moments of other strides."""
    first = stepped(torch.nn.Conv2d(3, 4, 3).to(memory_format=saved))  # type: ignore[call-overload]
    torch.save(first.optimizer_state(), tmp_path / "state.pt")
    second = Strategy(torch.nn.Conv2d(3, 4, 3).to(memory_format=resumed), Recipe(2, 1e-3), Runtime.alone())  # type: ignore[call-overload]
    second.load_optimizer_state(torch.load(tmp_path / "state.pt", weights_only=True))
    for ours, theirs in zip(second.weights, first.weights, strict=True):
        for name in ("exp_avg", "exp_avg_sq"):
            moment = second.optimizer.state[ours][name]
            assert moment.stride() == ours.stride()
            assert torch.equal(moment, first.optimizer.state[theirs][name])
        assert second.optimizer.state[ours]["step"] == 1
    assert second.weights[0].is_contiguous(memory_format=resumed)


def test_eight_bit_moments_are_not_read_in_another_memory_format() -> None:
    """Each of their scales belongs to a stretch of memory."""
    weight = torch.nn.Parameter(torch.zeros(4, 3, 3, 3))
    optimizer = optimizers.build(Recipe(1, 1e-3), [weight], CPU)
    codes = torch.zeros(4, 3, 3, 3, dtype=torch.uint8)
    state = {**optimizer.state_dict(), "state": {0: {"step": torch.ones(()), "state1": codes}}}
    optimizers.load_state(optimizer, state)
    state["state"] = {0: {"state1": codes.to(memory_format=torch.channels_last)}}
    with pytest.raises(UserError, match=r"8-bit moments have another memory format .* channels_last"):
        optimizers.load_state(optimizer, state)
