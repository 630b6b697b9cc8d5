"""Kills and processes: a killed stage run again, and two processes, give the files of one uninterrupted process."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from ruamel.yaml import YAML

from pipeline.core import files
from pipeline.data.image_set import ImageSet
from tests.faults import launching, tally
from tests.patience import HUNG

REPOSITORY = Path(__file__).parents[2]
STUDY = "smoke"


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the smoke study: real pairs, base, and the siamese generator trained without interruption.

    The stages are forks of a process that has imported everything, as launching.py tells; what is killed is a command.
    """
    folder = tmp_path_factory.mktemp("ready")
    params = YAML(typ="safe").load(REPOSITORY / "configs" / "studies" / "smoke.yaml")
    params["generators"], arms = {"siamese": params["generators"]["siamese"]}, params["training_sets"]
    params["training_sets"] = {name: arm for name, arm in arms.items() if name != "controlnet_x1"}
    params["finetune"] |= {"max_steps": 12, "checkpoint_every": 1}
    params["generate"] |= {"batch_size": 3, "steps": 4}
    YAML(typ="safe").dump(params, folder / "params.yaml")
    for stage in ("records", "prepare", "base", "finetune"):
        launching.done(folder, stage)
    return folder


def run(folder: Path, stage: str, processes: int = 1) -> None:
    ended = subprocess.run(command(stage, processes), cwd=folder, env=environment(), capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def command(stage: str, processes: int = 1) -> list[str]:
    script = [str(REPOSITORY / "stages" / f"{stage}.py")]
    script += ["--generator", "siamese"] if stage in ("finetune", "generate", "score", "snapshots") else []
    if processes == 1:
        return [sys.executable, *script]
    config = str(REPOSITORY / "configs" / "accelerate" / "cpu2.yaml")
    several = ["--num_processes", str(processes)]
    return [sys.executable, "-m", "accelerate.commands.launch", "--config_file", config, *several, *script]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def kill_when(folder: Path, stage: str, ready: Callable[[], bool], processes: int = 1) -> None:
    """Starts a stage and kills its whole process group as soon as `ready` holds."""
    process = subprocess.Popen(command(stage, processes), cwd=folder, env=environment(), start_new_session=True)
    limit = time.monotonic() + HUNG
    while not ready():
        assert process.poll() is None, f"{stage} ended before it could be killed"
        assert time.monotonic() < limit, f"{stage} made no progress"
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    tally.count("kills")


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
    folder = copy_without(ready, tmp_path / "killed", "outputs/smoke/generators/siamese", *works(ready, "finetune"))

    def begun() -> bool:
        return any(folder.glob("work/finetune-*/checkpoints/*.pt"))

    kill_when(folder, "finetune", begun)
    assert not (folder / "outputs" / STUDY / "generators" / "siamese").exists()
    run(folder, "finetune")
    assert digest(folder, "generators") == digest(ready, "generators")


@pytest.mark.dist
@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_finetune_killed_at_random_moments_has_the_weights_of_an_uninterrupted_run(
    ready: Path, tmp_path: Path, processes: int
) -> None:
    without = ("outputs/smoke/generators/siamese", *works(ready, "finetune"))
    once, killed = (copy_without(ready, tmp_path / name, *without) for name in ("once", "killed"))
    began = time.monotonic()
    run(once, "finetune", processes)
    whole, moments = time.monotonic() - began, random.Random(processes)
    for _ in range(3):
        process = subprocess.Popen(
            command("finetune", processes), cwd=killed, env=environment(), start_new_session=True
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=moments.uniform(0.3, 0.9) * whole)
        with contextlib.suppress(ProcessLookupError):
            kill_all(process)
        process.wait()
    run(killed, "finetune", processes)
    assert digest(killed, "generators") == digest(once, "generators")


def kill_all(process: "subprocess.Popen[bytes]") -> None:
    """Kills a launch and the processes it started, which may lead groups of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.dist
def test_killed_and_shared_generation_give_the_same_files(ready: Path, tmp_path: Path) -> None:
    once = copy_without(ready, tmp_path / "once")
    launching.done(once, "generate")
    images = sorted((once / "outputs" / STUDY / "synthetic" / "siamese" / "images").glob("*.png"))
    assert len(images) == 24  # 12 training masks, 2 copies

    killed = copy_without(ready, tmp_path / "killed")
    kill_when(killed, "generate", lambda: len(batches(killed)) >= 2)
    assert not (killed / "outputs" / STUDY / "synthetic" / "siamese").exists()
    run(killed, "generate", processes=2)
    assert digest(killed, "synthetic") == digest(once, "synthetic")


def batches(folder: Path) -> list[Path]:
    """The row files of finished batches."""
    return list(folder.glob("work/generate-*/rows/*/*.json"))


def larger(folder: Path, masks: int, steps: int) -> int:
    """Asks for two copies of so many masks, in batches of three; returns the number of batches."""
    params: dict[str, Any] = YAML(typ="safe").load(folder / "params.yaml")
    params["generators"]["siamese"] |= {"copies": 2, "count": masks}
    params["generate"] |= {"steps": steps}
    YAML(typ="safe").dump(params, folder / "params.yaml")
    return -(-2 * masks // 3)


def kill_at_random(folder: Path, kills: int, total: int, seed: int) -> None:
    """Starts two processes as often as there are kills, and kills all of them, or one, at a random moment of work."""
    rng = random.Random(seed)
    for left in range(kills, 0, -1):
        done = len(batches(folder))
        wanted = done + rng.randint(1, max(1, (total - done) // (left + 1)))
        launch = subprocess.Popen(command("generate", 2), cwd=folder, env=environment(), stderr=subprocess.DEVNULL)
        limit = time.monotonic() + HUNG
        while len(batches(folder)) < wanted:
            assert launch.poll() is None, "generate ended before it could be killed"
            assert time.monotonic() < limit, "generate made no progress"
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.2))
        kill(launch, rng)


def kill(launch: "subprocess.Popen[bytes]", rng: random.Random) -> None:
    """SIGKILL to all processes, or to one of those that generate; their launcher then ends the others."""
    assert launch.poll() is None, "generate ended before it could be killed"
    launcher = psutil.Process(launch.pid)
    launcher.suspend()  # it starts no further process now
    children = launcher.children(recursive=True)
    ranks = [child for child in children if told(child).endswith("generate.py --generator siamese")]
    one = bool(ranks) and rng.random() < 0.3
    for victim in [rng.choice(ranks)] if one else [*children, launcher]:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    if one:
        launcher.resume()
    assert launch.wait(timeout=HUNG) != 0
    tally.count("kills")
    gone, alive = psutil.wait_procs(children, timeout=HUNG)
    assert len(gone) == len(children) and not alive


def told(process: psutil.Process) -> str:
    """Its command line; empty where it has ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def complete(folder: Path, images: int) -> bool:
    """Whether the published set has so many different images, every file of it decodes, and nothing else lies there."""
    made = ImageSet.open(folder / "outputs" / STUDY / "synthetic" / "siamese")
    listed = {made.folder / row[column] for row in made for column in ("file_name", "mask")}
    for path in listed:
        with Image.open(path) as picture:
            picture.load()
    assert set(made.folder.rglob("*.png")) == listed
    return len(set(made.ids)) == len({row["sha256"] for row in made}) == len(made) == images


def killed_again_and_again(ready: Path, folder: Path, masks: int, steps: int, kills: int) -> None:
    once, killed = copy_without(ready, folder / "once"), copy_without(ready, folder / "killed")
    total = larger(once, masks, steps)
    larger(killed, masks, steps)
    run(once, "generate")
    kill_at_random(killed, kills, total, seed=kills)
    assert not (killed / "outputs" / STUDY / "synthetic" / "siamese").exists()
    run(killed, "generate", processes=2)
    assert complete(killed, 2 * masks)
    assert digest(killed, "synthetic") == digest(once, "synthetic")


@pytest.mark.dist
@pytest.mark.faults
@pytest.mark.slow
def test_three_random_kills_leave_the_set_of_an_uninterrupted_run(ready: Path, tmp_path: Path) -> None:
    killed_again_and_again(ready, tmp_path, masks=18, steps=20, kills=3)


@pytest.mark.dist
@pytest.mark.faults
@pytest.mark.slow
def test_twenty_random_kills_leave_the_set_of_an_uninterrupted_run(ready: Path, tmp_path: Path) -> None:
    killed_again_and_again(ready, tmp_path, masks=100, steps=50, kills=20)


@pytest.mark.dist
@pytest.mark.slow
def test_one_two_and_three_processes_make_the_same_files(ready: Path, tmp_path: Path) -> None:
    made = {}
    for processes in (1, 2, 3):
        folder = copy_without(ready, tmp_path / str(processes))
        run(folder, "generate", processes)
        published = folder / "outputs" / STUDY / "synthetic" / "siamese"
        listed = (path for path in published.rglob("*") if path.is_file())
        made[processes] = {path.relative_to(published).as_posix(): files.sha256(path) for path in listed}
    assert len(made[1]) == 24 * 2 + 5  # pairs, manifest, spec, card, Croissant file, seal
    assert made[1] == made[2] == made[3]


@pytest.mark.dist
@pytest.mark.slow
def test_two_processes_train_the_weights_of_one(ready: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    folder = copy_without(ready, tmp_path / "two", "outputs/smoke/generators/siamese", *works(ready, "finetune"))
    run(folder, "finetune", processes=2)
    for name in ("controlnet", "decoder"):
        ours, theirs = (
            load_file(f / "outputs" / STUDY / "generators" / "siamese" / f"{name}.safetensors") for f in (folder, ready)
        )
        # The stage trains in float32, where Adam moves a weight whose gradient is almost zero by its rate, up or down
        # as rounding has it. So not the furthest weight counts but the mean of all, as a share of what 12 steps can do.
        gaps = np.concatenate([abs(ours[key] - theirs[key]).ravel() for key in theirs])
        assert gaps.mean() < 0.05 * 12 * 5e-4


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
