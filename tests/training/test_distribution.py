"""Several processes over gloo do the work of one: gradients, losses, resuming, shards, two machines on loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.core.errors import UserError
from pipeline.core.runtime import TIMEOUT, Runtime
from tests import launched, toy_training
from tests.conftest import REPOSITORY
from tests.launched import free_port, launch
from tests.patience import HUNG
from tests.tiny_base import write_tiny_base
from tests.toy_training import Named

pytestmark = pytest.mark.dist

# Of weights and losses after a few steps of Adam at a rate of 1e-3. A step is lr g / (|g| + 1e-8), so that an error e
# of a gradient moves a weight by at most 1e5 e; with a norm of at most 1 and some 100 roundings of 2^-53 on its way, e
# is below 1e-14. That needs float64: in float32 e is 1e-5, and nothing is known of weights whose gradient is almost
# zero. The toy's rate of 1e-2 moves ten times as far, over a tenth of the roundings.
ROUNDING = 1e-9


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
    ((one, _),) = launch(1, toy_training.train_brightness, None, None, {})
    for rows, _ in launch(2, toy_training.train_brightness, None, None, {}):
        assert [list(row) for row in rows] == [list(row) for row in one]
        for ours, theirs in zip(rows, one, strict=True):
            assert ours == pytest.approx(theirs, rel=ROUNDING)


def test_two_processes_resume_bit_for_bit(tmp_path: Path) -> None:
    (rows, whole), _ = launch(2, toy_training.train_brightness, None, None, {"ema_decay": 0.9})
    assert launch(2, toy_training.train_brightness, tmp_path, 8, {"ema_decay": 0.9}) == [None, None]
    for resumed_rows, resumed in launch(2, toy_training.train_brightness, tmp_path, None, {"ema_decay": 0.9}):
        assert resumed_rows == rows
        assert furthest(resumed, whole) == 0


@pytest.mark.parametrize(("first", "second"), [("none", "fsdp2"), ("fsdp2", "none"), ("fsdp2", "fsdp2")])
def test_a_run_goes_on_in_another_layout(tmp_path: Path, first: str, second: str) -> None:
    ((rows, whole),) = launch(1, toy_training.train_brightness, None, None, {"ema_decay": 0.9, "snapshots": (10,)})
    settings = {"ema_decay": 0.9, "snapshots": (10,)}
    launch(2, toy_training.train_brightness, tmp_path, 8, settings, sharding=first)
    for resumed_rows, resumed in launch(2, toy_training.train_brightness, tmp_path, None, settings, sharding=second):
        assert resumed_rows[-1] == pytest.approx(rows[-1], rel=ROUNDING)
        assert furthest(resumed, whole) < ROUNDING
    kept = torch.load(tmp_path / "snapshots" / "000010.pt", weights_only=True)
    assert {name: value.shape for name, value in kept.items()} == {n: v.shape for n, v in whole.items()}


def test_siamese_takes_two_sharded_steps_like_replicas(base: Path, tmp_path: Path) -> None:
    (whole,) = launch(1, launched.train_siamese, base, None, 2)
    launch(2, launched.train_siamese, base, tmp_path, 1, sharding="fsdp2")
    for sharded in launch(2, launched.train_siamese, base, tmp_path, 2, sharding="fsdp2"):
        assert {value.dtype for value in (whole | sharded).values()} == {torch.float64}
        assert furthest(sharded, whole) < ROUNDING


def test_shards_go_on_in_another_memory_format(base: Path, tmp_path: Path) -> None:
    """FSDP2 shards no parameters whose memory format is channels_last, as all presets set it."""
    (whole,) = launch(1, launched.train_siamese, base, None, 2)
    launch(1, launched.train_siamese, base, tmp_path, 1, True)
    for sharded in launch(2, launched.train_siamese, base, tmp_path, 2, True, sharding="fsdp2"):
        assert furthest(sharded, whole) < ROUNDING


def test_processes_share_the_encoding_of_a_set(base: Path, tmp_path: Path) -> None:
    (one,) = launch(1, launched.keep_moments, base, tmp_path / "one")
    two = launch(2, launched.keep_moments, base, tmp_path / "two")
    assert sum(count for _, count in two) == one[1] == 20
    assert all(torch.equal(moments, one[0]) for moments, _ in two)


def test_processes_wait_longer_for_a_slow_one_than_the_libraries_would() -> None:
    heard = launch(2, launched.wait_for_a_slow_main_process, 3.0, before=launched.impatient_library)
    assert heard == [("done", 0.5)] * 2


def test_the_user_says_how_long_processes_wait() -> None:
    assert launch(2, launched.patience, before=launched.impatient_user) == [77.0] * 2


@pytest.mark.parametrize("given", ["0", "-1", "soon", "nan", "inf", "1e30"])
def test_a_waiting_time_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TIMEOUT, given)
    with pytest.raises(UserError, match=rf"TWINSYNTH_TIMEOUT is '{given}'; set it to the number of seconds"):
        Runtime.start(1)


def start(config: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    """A launch as a user would make it, of the toy."""
    folder.mkdir(exist_ok=True)
    file = REPOSITORY / "configs" / "accelerate" / f"{config}.yaml"
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(file), *more]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    script = [str(REPOSITORY / "tests" / "toy_training.py"), str(folder)]
    return subprocess.Popen([*command, *script], env=environment, stderr=subprocess.PIPE, text=True)


def ended(launches: list[subprocess.Popen[str]]) -> None:
    for process in launches:
        _, error = process.communicate(timeout=HUNG)
        assert process.returncode == 0, error


def test_two_machines_on_loopback_train_the_weights_of_one(tmp_path: Path) -> None:
    port = str(free_port())
    machines = [("--machine_rank", rank, "--main_process_port", port) for rank in "01"]
    ended([start("cpu2x1", tmp_path / "out", *machine) for machine in machines])
    (_, one_machine), _ = launch(2, toy_training.train_brightness, None, None, {})
    assert furthest(torch.load(tmp_path / "out" / "weights.pt", weights_only=True), one_machine) == 0


@pytest.mark.slow
@pytest.mark.parametrize("config", ["cpu2", "cpu2_fsdp2"])
def test_launch_configurations_for_the_cpu_train_alike(config: str, tmp_path: Path) -> None:
    ended([start(config, tmp_path / "out")])
    (_, whole), _ = launch(2, toy_training.train_brightness, None, None, {})
    assert furthest(torch.load(tmp_path / "out" / "weights.pt", weights_only=True), whole) < ROUNDING


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs" / "accelerate").glob("*.yaml")), ids=lambda p: p.stem)
def test_launch_configurations_are_known_to_accelerate(path: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    found = load_config_from_file(str(path))
    assert (
        found.num_processes
        == {"": 1, "2": 2, "1": 1, "8": 8, "2x8": 16, "2x1": 2}[path.stem.lstrip("cgpu").split("_")[0]]
    )
    assert found.mixed_precision == "no"
    assert found.use_cpu == path.stem.startswith("cpu")
