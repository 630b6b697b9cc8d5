"""Folds of a cross-validation that run side by side, each in a copy of the project."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.cli import fold_runs
from pipeline.cli.fold_runs import copy_project, run_folds
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml

STUDY = "configs/studies/dealt.yaml"


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example.invalid", *arguments], check=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A project of one study with three folds, and commands that stand for twinsynth and dvc."""
    folder = tmp_path / "project"
    (folder / "configs/studies").mkdir(parents=True)
    (folder / "pipeline").mkdir()
    monkeypatch.chdir(folder)
    Path(STUDY).write_text("study: dealt\n", encoding="utf-8")
    Path("params.yaml").write_text("study: other\n")
    Path("pipeline/removed.py").write_text("1\n")
    Path(".gitignore").write_text("/data/*\n/outputs/\n/work/\n")
    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "Begin")
    Path("data").mkdir()
    Path("data/pictures").write_text("pixels")
    commands = tmp_path / "commands"
    commands.mkdir()
    fake(commands / "twinsynth", 'printf "study: $3_f$5\\n" > params.yaml')
    repro = 'study=$(sed "s/study: //" params.yaml); test "$study" != "$FAILS" || { echo no room; exit 7; }\n'
    repro += (
        'mkdir -p outputs/$study; cat data/pictures > outputs/$study/seen; echo "$PYTHONPATH" > outputs/$study/code'
    )
    fake(commands / "dvc", repro)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAILS", "")
    return "dealt"


def fake(place: Path, text: str) -> None:
    place.write_text(f"#!/bin/sh\n{text}\n")
    place.chmod(0o755)


def test_folds_run_in_copies_and_their_outputs_come_back(project: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run_folds("dealt", project, 3, [0, 2], jobs=2) == ["dealt_f0", "dealt_f2"]
    for study in ("dealt_f0", "dealt_f2"):
        assert Path(f"outputs/{study}/seen").read_text() == "pixels"
        assert Path(f"outputs/{study}/code").read_text().strip() == str((fold_runs.COPIES / study).resolve())
    assert read_yaml(Path("params.yaml")) == {"study": "other"}  # the study in place stays
    assert "dealt_f2 is finished" in capfd.readouterr().err


def test_a_fold_that_fails_stops_no_other_and_is_named(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAILS", "dealt_f0")
    with pytest.raises(UserError, match=r"failed: dealt_f0; the reason is at the end of work/folds/dealt_f0\.log"):
        run_folds("dealt", project, 3, [0, 1], jobs=1)
    assert "no room" in Path("work/folds/dealt_f0.log").read_text()
    assert Path("outputs/dealt_f1/seen").is_file() and not Path("outputs/dealt_f0").exists()
    monkeypatch.setenv("FAILS", "")
    assert run_folds("dealt", project, 3, [0, 1], jobs=1) == ["dealt_f0", "dealt_f1"]


@pytest.mark.parametrize(
    ("folds", "said"), [([3], "fold 3 is to be run, but the study dealt has the folds 0 to 2"), ([1, 1], "named twice")]
)
def test_folds_that_do_not_exist_or_repeat(project: str, folds: list[int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        run_folds("dealt", project, 3, folds, jobs=1)
    assert not Path("work").exists()


def test_projects_that_cannot_be_copied_are_refused(project: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(Path.cwd().parent))
    with pytest.raises(UserError, match="git clone failed, so that no copy of the project can be made"):
        run_folds("dealt", project, 3, [0], jobs=1)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="git is not installed"):
        run_folds("dealt", project, 3, [0], jobs=1)


def test_a_study_without_folds_is_refused(project: str) -> None:
    with pytest.raises(UserError, match=r"the study dealt has no data\.folds"):
        run_folds("dealt", project, None, [0], jobs=1)


def test_a_copy_follows_the_project_but_keeps_its_state(project: str) -> None:
    copy = Path("work/folds/dealt_f0")
    Path("pipeline/new.py").write_text("2\n")
    Path(STUDY).write_text(Path(STUDY).read_text() + "# changed\n")
    copy_project(copy)
    assert (copy / "pipeline/new.py").read_text() == "2\n"
    assert (copy / STUDY).read_text().endswith("# changed\n")
    assert (copy / "data/pictures").resolve() == Path("data/pictures").resolve()
    assert not (copy / "work").exists()
    (copy / "params.yaml").write_text("study: dealt_f0\n")
    Path("pipeline/removed.py").unlink()
    git("add", ".")
    git("commit", "--quiet", "-m", "Go on")
    Path("params.yaml").write_text("study: another\n")
    (copy / "dvc.lock").write_text("done\n")
    copy_project(copy)
    assert not (copy / "pipeline/removed.py").exists()
    assert (copy / "dvc.lock").read_text() == "done\n"
