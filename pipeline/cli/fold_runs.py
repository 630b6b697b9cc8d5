"""Running folds of a cross-validation side by side, each in a copy of the project.

DVC runs one study per project at a time.
"""

import filecmp
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.core import files, paths
from pipeline.core.errors import UserError

COPIES = paths.WORK / "folds"  # a folder and a log per fold
CODE = ("configs", "pipeline", "stages")  # folders of which new files are copied; what is new elsewhere is shared
OWN = {"outputs", "work", "reports", "dvclive", "dvc_plots", "dvc.lock", "uv.lock"}  # what every copy makes itself
STATE = {"params.yaml", "dvc.lock"}


def run_folds(name: str, study: str, count: int | None, folds: Sequence[int], jobs: int) -> list[str]:
    """Run folds of a study, `jobs` at a time, copy what they publish to outputs, and return the names of their studies.

    `name` is the file of configs/studies, `study` the study that it holds, and `count` the number of its folds. Each
    fold runs in a copy of the project, work/folds/<study>_f<N>, with the files as they are now, committed or not.
    A fold that was interrupted continues where it stopped. A fold that fails does not stop the others. Raises UserError
    with the names and logs of all folds that failed, or where the study has no such fold.
    """
    if wrong := [fold for fold in folds if not 0 <= fold < (count or 0)]:
        has = f"the folds 0 to {count - 1}" if count else "no data.folds"
        raise UserError(f"fold {wrong[0]} is to be run, but the study {study} has {has}")
    if twice := [fold for fold in set(folds) if folds.count(fold) > 1]:
        raise UserError(f"fold {twice[0]} is named twice; name every fold once")
    studies = {f"{study}_f{fold}": fold for fold in folds}
    for each in studies:
        copy_project(COPIES / each)
    with ThreadPoolExecutor(jobs) as pool:
        statuses = list(pool.map(lambda each: _run(each, name, studies[each]), studies))
    if failed := [each for each, status in zip(studies, statuses, strict=True) if status]:
        logs = ", ".join(str(_log(each)) for each in failed)
        raise UserError(
            f"failed: {', '.join(failed)}; the reason is at the end of {logs}; the same command continues these folds"
        )
    return list(studies)


def copy_project(target: Path) -> None:
    """Make `target` a clone of this project with its uncommitted changes, which shares its data and weights."""
    if not target.exists():
        staging = target.with_name(f".{target.name}.tmp")
        shutil.rmtree(staging, ignore_errors=True)
        _git("clone", "--quiet", "--shared", ".", str(staging))
        staging.rename(target)
    head = _git("rev-parse", "HEAD").strip()
    if _git("-C", str(target), "rev-parse", "HEAD").strip() != head:
        _git("-C", str(target), "fetch", "--quiet", "origin", "HEAD")
        _git("-C", str(target), "checkout", "--quiet", "--force", "--detach", head)
    for name in _names("--cached", "--modified"):
        _update(name, target)
    for name in _names("--others", "--exclude-standard", "--", *CODE):
        _update(name, target)
    for name in _names("--others", "--directory", "--no-empty-directory"):
        first = Path(name).parts[0]
        if not first.startswith(".") and first not in OWN | set(CODE) and not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).symlink_to(Path(name).resolve())


def _update(name: str, target: Path) -> None:
    """Make a file of a copy equal to the one of the project, unless the copy has a state of its own."""
    source, copy = Path(name), target / name
    if name in STATE and copy.exists():
        return
    if not source.is_file():
        copy.unlink(missing_ok=True)
    elif not copy.is_file() or not filecmp.cmp(source, copy, shallow=False):
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, copy)


def _names(*options: str) -> list[str]:
    return [name for name in _git("ls-files", "-z", *options).split("\0") if name]


def _run(study: str, name: str, fold: int) -> int:
    """Run a fold in its copy, publish its outputs, and return the exit status of the command that failed, or 0."""
    copy, log = COPIES / study, _log(study)
    environment = os.environ | {"PYTHONPATH": str(copy.resolve())}  # the copy's code, wherever the package is installed
    _note(f"{study} is running; its log: {log}")
    with log.open("a", encoding="utf-8") as output:
        for command in (["twinsynth", "study", "use", name, "--fold", str(fold), "--yes"], ["dvc", "repro"]):
            done = subprocess.run(
                command, check=False, cwd=copy, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
            if done.returncode:
                _note(f"{study} failed")
                return done.returncode
    _publish(copy / paths.outputs(study), paths.outputs(study))
    _note(f"{study} is finished")
    return 0


def _publish(folder: Path, target: Path) -> None:
    """Put the outputs of a fold, sealed folders and files, into the outputs of this project."""
    staging = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(folder, staging, copy_function=lambda source, copy: files.link_or_copy(Path(source), Path(copy)))
    shutil.rmtree(target, ignore_errors=True)
    staging.rename(target)


def _note(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _log(study: str) -> Path:
    return COPIES / f"{study}.log"


def _git(*arguments: str) -> str:
    if not shutil.which("git"):
        raise UserError("git is not installed; it copies the project for every fold")
    done = subprocess.run(["git", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed, so that no copy of the project can be made: {done.stderr.strip()}")
    return done.stdout
