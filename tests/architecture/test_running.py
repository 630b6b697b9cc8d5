"""How the tests are run: what is told of the machine, how many workers there are, and which tests stay together."""

import os
import platform
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from tests import dealing, machine
from tests.conftest import REPOSITORY


@pytest.mark.parametrize(
    ("text", "name", "flags"),
    [
        ("model name\t: An x86\nflags\t\t: fpu avx avx2 avx512f amx_tile\n" * 2, "An x86", "avx avx2 avx512f amx_tile"),
        ("BogoMIPS\t: 50\nFeatures\t: fp asimd sve\n", platform.processor() or platform.machine(), "asimd sve"),
        (None, platform.processor() or platform.machine(), ""),
    ],
)
def test_the_processor_is_told(
    text: str | None, name: str, flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert machine.processor() == (name, flags.split())


@pytest.mark.parametrize(
    ("cores", "gigabytes", "confined", "expected"),
    [
        (2, 24, "max", 2),
        (64, 256, None, 8),
        (8, 10.5, "max", 4),
        (8, 64, "8000000000", 3),
        (4, 1, None, 1),
        (1, 64, None, 1),
    ],
)
def test_workers_fit_cores_and_memory(
    cores: int, gigabytes: float, confined: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CONFINED", tmp_path / "memory.max")
    if confined is not None:
        (tmp_path / "memory.max").write_text(f"{confined}\n")
    found = SimpleNamespace(total=int(1e12), available=int(gigabytes * 1e9))
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: found)
    assert machine.workers() == expected


def test_a_run_with_workers_begins_with_its_machine_and_ends_with_a_count(tmp_path: Path) -> None:
    """Quiet as it is; and a worker that dies makes it fail."""
    (tmp_path / "conftest.py").write_text("from tests.dealing import *\n")
    (tmp_path / "test_sound.py").write_text("def test_sound():\n    pass\n")
    (tmp_path / "test_dies.py").write_text("import os\ndef test_dies():\n    os._exit(0)\n")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "ONEDNN_MAX_CPU_ISA": "AVX2"}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "xdist", "-n", "1", "--rootdir", str(tmp_path)]
    done = subprocess.run([*command, str(tmp_path)], env=environment, cwd=tmp_path, capture_output=True, text=True)
    lines = done.stdout.splitlines()
    assert [line.partition(":")[0] for line in lines[:3]] == ["processor", "resources", "versions"]
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in lines[0] and "1 worker, threads per process: 1" in lines[1]
    assert (
        "worker 'gw0' crashed while running 'test_dies.py::test_dies'" in done.stdout
        and "1 failed, 1 passed in" in lines[-1]
    )
    assert done.returncode == 1


def test_a_file_stays_together_unless_its_tests_are_dealt_one_by_one() -> None:
    whole, split = "tests/pipeline/test_files.py::test_a[x::y]", f"tests/docs/{dealing.SPLIT[0]}::test_a[x::y]"
    assert (dealing.group(whole), dealing.group(split)) == ("test_files.py", split)


def test_the_longest_files_exist_and_come_first() -> None:
    files = [path.name for path in (REPOSITORY / "tests").rglob("test_*.py")]
    assert len(set(files)) == len(files) and {*dealing.LONGEST, *dealing.SPLIT} <= set(files)
    names = ["tests/a.py::x", f"tests/b/{dealing.LONGEST[1]}::b", f"tests/a/{dealing.LONGEST[0]}::c", "tests/a.py::a"]
    items = [SimpleNamespace(nodeid=name) for name in names]
    dealing.longest_first(items)  # type: ignore[arg-type]
    assert [item.nodeid for item in items] == [names[2], names[1], names[0], names[3]]
