"""Several processes over gloo do the work of one: gradients, losses, resuming, shards, two machines on loopback."""

from pathlib import Path

import pytest
import torch

from tests import launched
from tests.launched import Named, launch
from tests.tiny_base import write_tiny_base

pytestmark = pytest.mark.dist


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"), "epsilon")


def furthest(ours: Named, theirs: Named) -> float:
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


@pytest.mark.parametrize(("sharding", "micro_batch"), [("none", None), ("none", 2), ("fsdp2", 2)])
def test_two_processes_of_four_have_the_gradients_of_one_of_eight(
    base: Path, sharding: str, micro_batch: int | None
) -> None:
    (whole,) = launch(1, launched.siamese_gradients, base, None)
    for shares in launch(2, launched.siamese_gradients, base, micro_batch, sharding=sharding):
        assert furthest(shares, whole) < 1e-10
    assert max(float(gradient.abs().max()) for gradient in whole.values()) > 1e-3


def test_losses_are_means_over_processes() -> None:
    ((one, _),) = launch(1, launched.train_brightness, None, None, {})
    for rows, _ in launch(2, launched.train_brightness, None, None, {}):
        assert [list(row) for row in rows] == [list(row) for row in one]
        for ours, theirs in zip(rows, one, strict=True):
            assert ours == pytest.approx(theirs, rel=1e-5)


def test_two_processes_resume_bit_for_bit(tmp_path: Path) -> None:
    (rows, whole), _ = launch(2, launched.train_brightness, None, None, {"ema_decay": 0.9})
    assert launch(2, launched.train_brightness, tmp_path, 8, {"ema_decay": 0.9}) == [None, None]
    for resumed_rows, resumed in launch(2, launched.train_brightness, tmp_path, None, {"ema_decay": 0.9}):
        assert resumed_rows == rows
        assert furthest(resumed, whole) == 0


@pytest.mark.parametrize(("first", "second"), [("none", "fsdp2"), ("fsdp2", "none"), ("fsdp2", "fsdp2")])
def test_a_run_goes_on_in_another_layout(tmp_path: Path, first: str, second: str) -> None:
    ((rows, whole),) = launch(1, launched.train_brightness, None, None, {"ema_decay": 0.9, "snapshots": (10,)})
    settings = {"ema_decay": 0.9, "snapshots": (10,)}
    launch(2, launched.train_brightness, tmp_path, 8, settings, sharding=first)
    for resumed_rows, resumed in launch(2, launched.train_brightness, tmp_path, None, settings, sharding=second):
        assert resumed_rows[-1] == pytest.approx(rows[-1], rel=1e-4)
        assert furthest(resumed, whole) < 1e-5
    kept = torch.load(tmp_path / "snapshots" / "000010.pt", weights_only=True)
    assert {name: value.shape for name, value in kept.items()} == {n: v.shape for n, v in whole.items()}


def test_siamese_takes_two_sharded_steps_like_replicas(base: Path, tmp_path: Path) -> None:
    (whole,) = launch(1, launched.train_siamese, base, None, 2)
    launch(2, launched.train_siamese, base, tmp_path, 1, sharding="fsdp2")
    for sharded in launch(2, launched.train_siamese, base, tmp_path, 2, sharding="fsdp2"):
        assert furthest(sharded, whole) < 1e-4
