"""Kills and processes: a killed stage run again, and two processes, give the files of one uninterrupted process."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline import files

REPOSITORY = Path(__file__).parents[2]
STUDY = "smoke"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the smoke study: real pairs, base, and the siamese generator trained without interruption."""
    folder = tmp_path_factory.mktemp("ready")
    params = YAML(typ="safe").load(REPOSITORY / "configs" / "studies" / "smoke.yaml")
    params["finetune"] |= {"max_steps": 12, "checkpoint_every": 1}
    params["generate"] |= {"batch_size": 3, "steps": 4}
    YAML(typ="safe").dump(params, folder / "params.yaml")
    for stage in ("methods", "prepare", "base", "finetune"):
        run(folder, stage)
    return folder


def run(folder: Path, stage: str, processes: int = 1) -> None:
    done = subprocess.run(command(stage, processes), cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def command(stage: str, processes: int = 1) -> list[str]:
    script = [str(REPOSITORY / "stages" / f"{stage}.py")]
    script += ["--generator", "siamese"] if stage in ("finetune", "generate", "score", "snapshots") else []
    if processes == 1:
        return [sys.executable, *script]
    config = str(REPOSITORY / "configs" / "accelerate" / "cpu2.yaml")
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, *script]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def kill_when(folder: Path, stage: str, ready: Callable[[], bool], processes: int = 1) -> None:
    """Starts a stage and kills its whole process group as soon as `ready` holds."""
    process = subprocess.Popen(command(stage, processes), cwd=folder, env=environment(), start_new_session=True)
    limit = time.monotonic() + 240
    while not ready():
        assert process.poll() is None, f"{stage} ended before it could be killed"
        assert time.monotonic() < limit, f"{stage} made no progress"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def copy_without(ready: Path, target: Path, *parts: str) -> Path:
    """The study again, as it was before some of its stages ran."""
    shutil.copytree(ready, target)
    for part in parts:
        shutil.rmtree(target / part, ignore_errors=True)
    return target


def digest(folder: Path, kind: str) -> str:
    published = folder / "outputs" / STUDY / kind / "siamese"
    assert published.is_dir()
    return files.tree_sha256(published)


def test_killed_finetune_resumes_to_the_same_weights(ready: Path, tmp_path: Path) -> None:
    folder = copy_without(ready, tmp_path / "killed", "outputs/smoke/generators", *works(ready, "finetune"))

    def begun() -> bool:
        return any(folder.glob("work/finetune-*/checkpoint.pt"))

    kill_when(folder, "finetune", begun)
    assert not (folder / "outputs" / STUDY / "generators").exists()
    run(folder, "finetune")
    assert digest(folder, "generators") == digest(ready, "generators")


@pytest.mark.dist
def test_killed_and_shared_generation_give_the_same_files(ready: Path, tmp_path: Path) -> None:
    once = copy_without(ready, tmp_path / "once")
    run(once, "generate")
    images = sorted((once / "outputs" / STUDY / "synthetic" / "siamese" / "images").glob("*.png"))
    assert len(images) == 24  # 12 training masks, 2 copies

    killed = copy_without(ready, tmp_path / "killed")
    kill_when(killed, "generate", lambda: len(list(killed.glob("work/generate-*/rows/*.json"))) >= 2)
    assert not (killed / "outputs" / STUDY / "synthetic").exists()
    run(killed, "generate", processes=2)
    assert digest(killed, "synthetic") == digest(once, "synthetic")


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(ready: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    folder = copy_without(ready, tmp_path / "two", "outputs/smoke/generators", *works(ready, "finetune"))
    run(folder, "finetune", processes=2)
    for name in ("controlnet", "decoder"):
        ours, theirs = (
            load_file(f / "outputs" / STUDY / "generators" / "siamese" / f"{name}.safetensors") for f in (folder, ready)
        )
        assert max(float(abs(ours[key] - theirs[key]).max()) for key in theirs) < 1e-3


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_score_as_one(ready: Path, tmp_path: Path) -> None:
    once = copy_without(ready, tmp_path / "once")
    for stage in ("generate", "judge"):
        run(once, stage)
    shared = copy_without(once, tmp_path / "shared")
    for folder, processes in ((once, 1), (shared, 2)):
        for stage in ("score", "snapshots"):
            run(folder, stage, processes)
    for kind in ("scores", "snapshots"):
        assert digest(shared, kind) == digest(once, kind)


def works(folder: Path, stage: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.glob(f"work/{stage}-*")]
