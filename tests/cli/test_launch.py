"""What a stage is started on: the GPUs that are there (faked here), else the CPU; and what no CPU is asked for."""

import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli import launch
from pipeline.core import files, gpus, paths
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml
from pipeline.stages import hardware
from pipeline.study import Params, load_params
from tests.conftest import REPOSITORY

STUDIES = REPOSITORY / "configs" / "studies"
COMMANDS = {
    name: stage["cmd"].split()[3:]
    for name, stage in read_yaml(REPOSITORY / "dvc.yaml")["stages"].items()
    if "pipeline.cli.launch" in stage["cmd"]
}
ON_CPU = dict.fromkeys(COMMANDS, "cpu") | {"segment": "cpu2", "confirm": "cpu2"}


@pytest.fixture(autouse=True)
def shell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    for name in ("LAUNCH", "PRESET", hardware.ALLOW):
        monkeypatch.delenv(name, raising=False)


def visible(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(gpus, "count_visible", lambda: count)


def demo() -> Params:
    return load_params(STUDIES / "demo.yaml")


def choose(stage: str, params: Params, environment: dict[str, str]) -> launch.Launch:
    return launch.choose(stage, params.study, params.base, params.finetune.global_batch, environment)


@pytest.mark.parametrize("stage", COMMANDS)
def test_two_gpus_are_found_and_none_is_the_cpu(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    visible(monkeypatch, 2)
    two = choose(stage, demo(), {})
    assert two.command(["x.py"])[3:] == [
        "--config_file",
        "configs/accelerate/gpu8.yaml",
        "--num_processes",
        "2",
        "x.py",
    ]
    assert two.why == "2 processes on 2 of 2 visible GPUs, one each"
    visible(monkeypatch, 0)
    none = choose(stage, demo(), {})
    launched = ["--config_file", f"configs/accelerate/{ON_CPU[stage]}.yaml", "x.py"]
    assert none.command(["x.py"]) == ["x.py"] if none.alone else none.command(["x.py"])[3:] == launched
    assert none.alone == (ON_CPU[stage] == "cpu")
    assert none.why.endswith("on the CPU: torch sees no GPU")


def test_one_gpu_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    visible(monkeypatch, 1)
    assert choose("finetune", demo(), {}).config == "gpu1"


def test_only_as_many_gpus_train_as_share_the_global_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [launch.share(found, 48) for found in (1, 2, 5, 7, 8)] == [1, 2, 4, 6, 8]
    assert launch.share(7, None) == 7
    visible(monkeypatch, 7)
    params = demo()
    batch = params.finetune.global_batch
    assert choose("generate", params, {}).processes == 7
    train = choose("finetune", params, {})
    assert train.processes == launch.share(7, batch) < 7
    assert train.why.endswith(f"; 7 cannot share finetune.global_batch {batch} evenly")


def test_the_shell_overrides_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    visible(monkeypatch, 8)
    asked = choose("segment", demo(), {"LAUNCH": "cpu2"})
    assert (asked.config, asked.processes, asked.why) == ("cpu2", None, "2 processes, as LAUNCH=cpu2 says")
    assert choose("finetune", demo(), {"PRESET": "8x24g"}).config == "gpu8_zero2"
    assert choose("finetune", demo(), {"PRESET": "8x24g", "LAUNCH": "gpu1"}).config == "gpu1"
    assert choose("finetune", demo(), {"LAUNCH": "gpu2x8"}).config == "gpu2x8"  # eight here, eight there


def test_a_launch_that_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    visible(monkeypatch, 2)
    with pytest.raises(UserError, match="LAUNCH=gpu8 starts 8 processes on GPUs, but torch sees 2; without it"):
        choose("finetune", demo(), {"LAUNCH": "gpu8"})
    with pytest.raises(
        UserError, match=r"LAUNCH=gpu9: there is no file .*gpu9.yaml; the available ones are: cpu, cpu2, "
    ):
        choose("finetune", demo(), {"LAUNCH": "gpu9"})


def test_a_cpu_is_not_asked_for_stable_diffusion(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    large = load_params(STUDIES / "polyps.yaml")
    visible(monkeypatch, 0)
    for stage in launch.OF_BASE:
        with pytest.raises(UserError, match=r"needs a GPU, but torch sees no GPU; .* TWINSYNTH_ALLOW_CPU=1"):
            choose(stage, large, {})
    with pytest.raises(UserError, match="but LAUNCH=cpu2 names the CPU"):
        choose("generate", large, {"LAUNCH": "cpu2"})
    with pytest.raises(UserError, match="needs a GPU"):
        hardware.check_alone(large.base, large.study)
    assert choose("segment", large, {}).config == "cpu2"
    monkeypatch.setenv(hardware.ALLOW, "1")
    assert choose("finetune", large, {}).config == "cpu"
    monkeypatch.delenv(hardware.ALLOW)
    visible(monkeypatch, 1)
    hardware.check_alone(large.base, large.study)
    assert choose("finetune", large, {}).config == "gpu1"


def test_a_small_base_of_a_hub_is_known_once_it_is_here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    large = load_params(STUDIES / "polyps.yaml")
    monkeypatch.chdir(tmp_path)
    assert hardware.is_large(large.base, large.study)
    files.write_bytes(paths.base(large.study) / "unet" / "diffusion_pytorch_model.safetensors", b"small")
    assert not hardware.is_large(large.base, large.study)
    folder = large.base.model_copy(update={"source": str(paths.base(large.study))})
    assert not hardware.is_large(folder, "another")


@pytest.mark.skipif(gpus.has_driver(), reason="there may be a GPU")
@pytest.mark.parametrize("command", [["stages/base.py"], ["-m", "pipeline.cli.launch", "stages/finetune.py"]])
def test_the_refusal_is_one_line_and_comes_at_once(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes((STUDIES / "polyps.yaml").read_bytes())
    script = [str(REPOSITORY / part) if part == "stages/base.py" else part for part in command]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    asked = subprocess.run(
        [sys.executable, *script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3
    told = asked.stderr.splitlines()
    assert asked.returncode == 2 and told[0].startswith("error: base.source is ")
    assert [line for line in told[1:] if not line.startswith("log: ")] == []


def test_the_launcher_takes_the_place_of_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One process on a CPU needs no launcher; what a file of configs/accelerate says goes through accelerate."""
    started: list[Any] = []
    visible(monkeypatch, 0)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")  # put back afterwards
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((STUDIES / "demo.yaml").read_bytes())
    monkeypatch.setattr(os, "execv", lambda program, arguments: started.append(arguments[1:]))
    launch.main(["stages/finetune.py", "--generator", "siamese"])
    assert capsys.readouterr().out == "finetune: one process on the CPU: torch sees no GPU\n"
    assert os.environ["ACCELERATE_USE_CPU"] == "true"
    shutil.copytree(REPOSITORY / "configs" / "accelerate", "configs/accelerate")
    monkeypatch.setenv("LAUNCH", "cpu")
    launch.main(["stages/finetune.py", "--generator", "siamese"])
    stage = ["stages/finetune.py", "--generator", "siamese"]
    config = ["--quiet", "--config_file", "configs/accelerate/cpu.yaml"]
    assert started == [stage, ["-m", "accelerate.commands.launch", *config, *stage]]


def test_a_driver_is_looked_for_before_torch_is_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(gpus, "DRIVERS", (tmp_path / "driver",))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert gpus.count_visible() == 0
    (tmp_path / "driver").write_text("")
    with pytest.raises(ImportError):
        gpus.count_visible()
