"""Counts are made once per configuration, and those that come along are those of the code."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import shipped_counts
from pipeline.cli import kept_counts
from pipeline.core import files, gpus
from tests.conftest import REPOSITORY

ASK = """
import sys
from pipeline.cli.main import main
code = main(sys.argv[1:])
loaded = sorted({"torch", "diffusers", "transformers", "timm"} & set(sys.modules))
sys.exit(f"loaded {loaded}" if loaded else code)
"""


def test_a_configuration_is_counted_once(own_counts: Path) -> None:
    asked: list[int] = []

    def count() -> int:
        asked.append(1)
        return 7

    assert [kept_counts.kept("apples", {"size": size}, count) for size in (1, 1, 2)] == [7, 7, 7]
    assert len(asked) == 2
    for path in own_counts.iterdir():
        path.write_text("{")
    assert kept_counts.kept("apples", {"size": 1}, count) == 7 and len(asked) == 3


def test_nothing_is_as_good_a_count_as_another_and_needs_no_second_time() -> None:
    assert kept_counts.kept("pears", 1, lambda: None) is None
    assert kept_counts.kept("pears", 1, lambda: 3) is None


def test_other_code_counts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept_counts.kept("plums", 1, lambda: 1) == 1
    monkeypatch.setattr(kept_counts, "_counter", lambda: "other")
    assert kept_counts.kept("plums", 1, lambda: 2) == 2


def test_a_folder_that_cannot_be_written_costs_time_only(own_counts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_counts / "file").write_text("")
    monkeypatch.setattr(kept_counts, "FOLDER", own_counts / "file" / "counts")
    assert [kept_counts.kept("figs", 1, lambda one=one: one) for one in (1, 2)] == [1, 2]


def test_the_counts_that_come_along_are_those_of_the_code() -> None:
    """Where this fails, run benchmarks/shipped_counts.py. Memory differs by a table made once (4 kB)."""
    found = shipped_counts.counted([shipped_counts.written_study(shipped_counts.SIZES[0])])
    assert found
    for key, count in found.items():
        wanted = None if count is None else pytest.approx(count, rel=1e-5)  # None: it trains nothing
        assert kept_counts.shipped()[key] == wanted, key


@pytest.mark.skipif(gpus.has_driver(), reason="beside a GPU's driver torch is asked for the GPU")
@pytest.mark.parametrize("verb", ["doctor", "estimate"])
def test_a_study_of_init_is_answered_without_torch(verb: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in (".git", ".dvc/tmp", "outputs", "configs/studies", "images", "masks"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(40):
        Image.fromarray(rng.integers(0, 256, (80, 80, 3), np.uint8)).save(tmp_path / f"images/{number}.png")
        Image.fromarray(np.pad(np.full((40, 40), 255, np.uint8), 20)).save(tmp_path / f"masks/{number}.png")
    for path, content in ((".dvc/config", ""), ("dvc.yaml", "stages: {}")):
        files.write_bytes(tmp_path / path, content.encode())
    ways = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PATH": "", "CUDA_VISIBLE_DEVICES": ""}
    for arguments in (
        ("init", "--images", "images", "--masks", "masks", "--name", "mine", "--device", "cpu"),
        (verb, "--study", "mine"),
    ):
        asked = [sys.executable, "-c", ASK, *arguments]
        answer = subprocess.run(asked, cwd=tmp_path, env=ways, capture_output=True, text=True, check=False)
        assert "loaded" not in answer.stderr and answer.returncode in (0, 1), answer.stderr
    assert not (tmp_path / "work/counts").exists()
