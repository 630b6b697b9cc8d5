"""The figures in the repository are those that docs/figures/draw.py draws."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.patience import HUNG

FIGURES = REPOSITORY / "docs" / "figures"
QUICK = ["siamese_step.svg", "multipliers.svg", "verdicts.svg"]


def drawn(folder: Path, *names: str) -> Path:
    command = [sys.executable, str(FIGURES / "draw.py"), *names, "--to", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=True, timeout=HUNG)
    return folder


def test_diagrams_are_drawn_again_byte_for_byte(tmp_path: Path) -> None:
    folder = drawn(tmp_path, *QUICK)
    assert [name for name in QUICK if (folder / name).read_bytes() != (FIGURES / name).read_bytes()] == []


@pytest.mark.slow
def test_all_figures_are_drawn_again_byte_for_byte(tmp_path: Path) -> None:
    folder, kept = drawn(tmp_path), sorted(FIGURES.glob("*.[ps][nv]g"))
    assert [path.name for path in sorted(folder.iterdir())] == [path.name for path in kept]
    assert [path.name for path in kept if (folder / path.name).read_bytes() != path.read_bytes()] == []
