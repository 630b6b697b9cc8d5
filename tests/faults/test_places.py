"""A full disk, a folder that is not ours, a loss that is no number, a clock that jumps: one line, then as ever."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults import tally
from tests.faults.conftest import Clean, of_stage
from tests.faults.inside import Fault
from tests.faults.launching import KILLED, STUDY, copy, done, published, start

TRAINED = ("base", "finetune", "judge", "segment", "confirm")


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A small disk; skipped where nobody may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True).returncode:
        pytest.skip("this user may not mount a small tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def whole(study: Path, clean: Clean) -> None:
    right = published(study) == clean.hashes
    tally.count("losses", int(not right))
    assert right


def refused(study: Path, name: str, fault: Fault, *words: str) -> None:
    """One line that says what is wrong; nothing is half published."""
    run = start(study, name, faults=fault)
    assert run.wait() == 2, run.text
    for word in (*words, "error: "):
        assert word in run.text, run.text
    assert "Traceback" not in run.text and "nobody foresaw" not in run.text


def full(clean: Clean, study: Path, name: str, limit: int) -> None:
    """No file may have more bytes."""
    refused(study, name, Fault(file_size=limit), "cannot be", "run the same command again")
    assert all(clean.hashes[one] == found for one, found in published(study).items())
    done(study, name)
    whole(study, clean)


@pytest.mark.faults
def test_a_full_disk_ends_a_cheap_stage_with_one_line(begun: Clean, tmp_path: Path) -> None:
    full(begun, copy(begun.folder, tmp_path / "study", "prepare"), "prepare", 1500)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("limit", [1500, 20_000, 1_000_000])
@pytest.mark.parametrize("name", KILLED)
def test_a_full_disk_ends_a_stage_with_one_line(whole_study: Clean, tmp_path: Path, name: str, limit: int) -> None:
    largest = max(path.stat().st_size for path in whole_study.folder.joinpath("outputs").rglob("*") if path.is_file())
    assert largest > limit
    study = copy(whole_study.folder, tmp_path / "study", name)
    if start(study, name, faults=Fault(file_size=limit)).wait() == 0:
        pytest.skip(f"{name} writes no file of {limit} bytes")
    full(whole_study, study, name, limit)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("name", KILLED)
def test_a_small_disk_that_fills_up(whole_study: Clean, mounted: Path, name: str) -> None:
    resize(mounted, 200 << 20)
    study = copy(whole_study.folder, mounted / "study", name)
    disk = os.statvfs(mounted)
    resize(mounted, (disk.f_blocks - disk.f_bfree) * disk.f_frsize + (12 << 10))
    run = start(study, name)
    status = run.wait()
    resize(mounted, 200 << 20)
    assert status == 2 and "cannot be" in run.text, run.text
    assert "Traceback" not in run.text
    done(study, name)
    whole(study, whole_study)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@pytest.mark.faults
def test_outputs_that_may_not_be_written(begun: Clean, tmp_path: Path) -> None:
    read_only(begun, tmp_path, "prepare")


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("name", [name for name in KILLED if name != "prepare"])
def test_outputs_of_a_stage_that_may_not_be_written(whole_study: Clean, tmp_path: Path, name: str) -> None:
    read_only(whole_study, tmp_path, name)


def read_only(clean: Clean, folder: Path, name: str) -> None:
    study = copy(clean.folder, folder / "study", name)
    (study / "work").mkdir()
    closed = study if name == "report" else study / "outputs" / STUDY
    places = [closed, *(path for path in closed.rglob("*") if path.is_dir() and path.name != "work")]
    for path in places:
        path.chmod(0o555)
    refused(study, name, Fault(bound=True), "cannot be", "reports" if name == "report" else "outputs", "ermission")
    for path in places:
        path.chmod(0o755)
    done(study, name, fault=Fault(bound=True))
    whole(study, clean)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("name", TRAINED)
def test_a_loss_that_is_no_number_ends_the_run(whole_study: Clean, tmp_path: Path, name: str) -> None:
    study = copy(whole_study.folder, tmp_path / "study", name, linked=True)
    refused(study, name, Fault(nan_at=2), "loss is not finite", "step 2")
    assert not of_stage(published(study), name)
    done(study, name)
    whole(study, whole_study)


@pytest.mark.faults
def test_a_clock_that_jumps_changes_nothing(begun: Clean, tmp_path: Path) -> None:
    jumped(begun, tmp_path, "prepare")


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("name", [name for name in KILLED if name != "prepare"])
def test_a_clock_that_jumps_changes_no_stage(whole_study: Clean, tmp_path: Path, name: str) -> None:
    jumped(whole_study, tmp_path, name)


def jumped(clean: Clean, folder: Path, name: str) -> None:
    study = copy(clean.folder, folder / "study", name, linked=True)
    done(study, name, fault=Fault(clock=86_400.0 * 400))
    whole(study, clean)
