"""Two at once: the second is refused, the first is not disturbed, and a killed holder keeps nobody out."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.core import locks, paths
from pipeline.core.errors import UserError
from tests.conftest import REPOSITORY
from tests.faults.conftest import Clean, of_stage
from tests.faults.inside import Fault
from tests.faults.launching import STAGES, copy, done, place, published, start
from tests.patience import HUNG


def test_a_held_lock_names_its_holder_and_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    holder = f"mix_real .* by process {os.getpid()} on {socket.gethostname()}"
    with (
        locks.exclusive("mix_real"),
        locks.exclusive("mix_other"),
        pytest.raises(UserError, match=holder),
        locks.exclusive("mix_real"),
    ):
        pass
    with locks.exclusive("mix_real"):
        pass


def test_a_second_process_waits_for_a_held_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    order: list[str] = []

    def follow() -> None:
        with locks.wait_for("finetune-1"):
            order.append("second")

    caplog.set_level("INFO", "pipeline.core.locks")
    with locks.wait_for("finetune-1"):
        second = threading.Thread(target=follow)
        second.start()
        limit = time.monotonic() + HUNG
        while "another process makes finetune-1; waiting for it" not in caplog.text:
            assert time.monotonic() < limit
            time.sleep(0.01)
        order.append("first")
    second.join(HUNG)
    assert order == ["first", "second"]


def test_without_a_folder_to_write_in_there_is_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.WORK.write_text("a file")
    with locks.exclusive("mix"), locks.exclusive("mix"):
        pass


@pytest.mark.faults
def test_a_second_run_on_one_output_is_refused(begun: Clean, tmp_path: Path) -> None:
    two_at_once(begun, tmp_path, "prepare", "prepare")


@pytest.mark.faults
def test_a_killed_holder_keeps_nobody_out(begun: Clean, tmp_path: Path) -> None:
    study = copy(begun.folder, tmp_path / "study", "prepare", linked=True)
    assert start(study, "prepare", faults=Fault(kill_at=20)).wait() == -signal.SIGKILL
    done(study, "prepare")
    assert published(study) == begun.hashes


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("name", ["base", "finetune", "segment"])
def test_a_second_run_of_a_long_stage_is_refused(whole_study: Clean, tmp_path: Path, name: str) -> None:
    two_at_once(whole_study, tmp_path, name, name)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.dist
def test_a_second_launch_of_two_processes_is_refused(whole_study: Clean, tmp_path: Path) -> None:
    two_at_once(whole_study, tmp_path, "generate", "generate", ranks=2)


def two_at_once(clean: Clean, folder: Path, first: str, second: str, ranks: int = 1) -> None:
    """The first is stopped in the middle of its work while the second tries."""
    study = copy(clean.folder, folder / "study", first, linked=True)
    running = start(study, first, faults=Fault(stop_at=clean.operations[first] // 2))
    assert running.wait_for_progress()
    wait_until_stopped(running.processes[0].pid)
    refused = start(study, second, ranks)
    assert refused.wait() == 2
    assert f"is already being made in this folder by process {running.processes[0].pid}" in refused.text
    assert not [name for name in of_stage(published(study), first)]
    os.kill(running.processes[0].pid, signal.SIGCONT)
    assert running.wait() == 0, running.text
    assert published(study) == clean.hashes


def wait_until_stopped(pid: int) -> None:
    limit = time.monotonic() + HUNG
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "T":
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.faults
def test_two_dvc_repro_at_once_do_not_mix(begun: Clean, tmp_path: Path) -> None:
    study = copy(begun.folder, tmp_path / "study", "prepare")
    outs = "".join(f"      - {place(output)}\n" for output in STAGES["prepare"].outputs)
    script = f"{sys.executable} {STAGES['prepare'].script}"
    (study / "dvc.yaml").write_text(f"stages:\n  prepare:\n    cmd: {script}\n    outs:\n{outs}")
    dvc, variables = [sys.executable, "-m", "dvc"], {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run([*dvc, "init", "--no-scm", "-q"], cwd=study, check=True, env=variables)
    ran = [subprocess.Popen([*dvc, "repro"], cwd=study, env=variables, stderr=subprocess.PIPE) for _ in range(2)]
    told = [one.communicate(timeout=HUNG)[1].decode() for one in ran]
    statuses = [one.returncode for one in ran]
    assert 0 in statuses, told
    for status, text in zip(statuses, told, strict=True):
        assert status == 0 or "lock" in text or "busy" in text, text
    shutil.rmtree(study / ".dvc")
    assert published(study) == begun.hashes
