"""What DeepSpeed is asked for, by a stand-in for it: float32 gradients between processes, autocast inside autocast."""

import sys
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch

from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches
from pipeline.training.loop import fit
from tests.toy_training import Brightness, Named, pairs


class Engine:
    """Calls the model as DeepSpeed's engine does: in an autocast of its own, inside ours or none."""

    configs: list[dict[str, Any]] = []  # noqa: RUF012

    def __init__(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, config: dict[str, Any]) -> None:
        self.model, self.optimizer, self.autocast = model, optimizer, config["torch_autocast"]
        self.configs.append(config)

    def __call__(self, *inputs: Any) -> Named:
        with torch.autocast("cpu", getattr(torch, self.autocast["dtype"]), enabled=self.autocast["enabled"]):
            return self.model(*inputs)

    def set_gradient_accumulation_boundary(self, boundary: bool) -> None:
        self.boundary = boundary

    def backward(self, loss: torch.Tensor) -> None:
        loss.backward()

    def step(self) -> None:
        assert self.boundary
        self.optimizer.step()
        self.optimizer.zero_grad()


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The configurations that engines were made with."""

    def initialize(model: Any, optimizer: Any, config: dict[str, Any]) -> tuple[Engine, None]:
        return Engine(model, optimizer, config), None

    monkeypatch.setitem(sys.modules, "deepspeed", SimpleNamespace(initialize=initialize))
    monkeypatch.setattr(Engine, "configs", [])
    return Engine.configs


def train(sharding: Literal["none", "zero2"], precision: Literal["fp32", "bf16"]) -> Named:
    objective = Brightness()
    runtime = Runtime(torch.device("cpu"), sharding=sharding)
    fit(objective, Batches(pairs(), 4, "t"), Recipe(3, 1e-2, precision=precision, micro_batch=2), runtime)
    return dict(objective.state_dict())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_are_exchanged_in_float32_as_under_ddp(
    configs: list[dict[str, Any]], precision: Literal["fp32", "bf16"]
) -> None:
    """DeepSpeed exchanges those of the layers that it calls safe in the precision of its autocast, by default most."""
    train("zero2", precision)
    (config,) = configs
    assert config["communication_data_type"] == "fp32"
    assert config["torch_autocast"] == {
        "enabled": precision == "bf16",
        "dtype": "bfloat16",
        "lower_precision_safe_modules": [],
    }


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_autocast_inside_autocast_changes_nothing(
    configs: list[dict[str, Any]], precision: Literal["fp32", "bf16"]
) -> None:
    plain, nested = train("none", precision), train("zero2", precision)
    assert configs
    assert all(torch.equal(value, nested[name]) for name, value in plain.items())
    assert {value.dtype for value in nested.values()} == {torch.float32}
