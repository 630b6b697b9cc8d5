"""Checks of DVC's state, read from its files; DVC itself is not run."""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.cli.doctor.findings import Finding, error, note, shortened, warning
from pipeline.core.errors import UserError
from pipeline.core.section import read_yaml
from pipeline.stages.prepare.params import Data

DVC, GRAPH, LOCK = Path(".dvc"), Path("dvc.yaml"), Path("dvc.lock")
LARGEST = 4e9  # bytes of one output that are hashed; of larger ones number and size of files are compared


def unwatched_data(data: Data) -> Iterator[Finding]:
    """Find data that DVC does not watch."""
    root = data.options.get("root") or data.options.get("file")
    for place in (root, data.unlabelled and data.unlabelled.folder, data.attributes and data.attributes.file):
        if place and not Path(str(place)).resolve().is_relative_to(Path("data").resolve()):
            message = f"the data lies outside data/ ({place}), so DVC does not see it change"
            yield note("dvc", message, "after a change of the data: dvc repro --force prepare")


def repository(folder: Path = Path()) -> Iterator[Finding]:
    """Check that the project's folder is initialised for DVC inside a git repository."""
    if not (folder / GRAPH).is_file():
        yield error("dvc", f"there is no {GRAPH} here", "run in the project's folder")
    if not (folder / DVC).is_dir():
        yield error("dvc", "DVC is not initialised here", "dvc init (in a folder without git: dvc init --no-scm)")
    elif not (folder / DVC / "config").is_file():
        yield error("dvc", ".dvc has no config", "git checkout .dvc, or dvc init -f")
    in_git = any((parent / ".git").exists() for parent in (folder.absolute(), *folder.absolute().parents))
    if not in_git and "no_scm" not in _text(folder / DVC / "config"):
        yield error("git", "this is no git repository, and DVC expects one", "git init, or dvc config core.no_scm true")


def running(folder: Path = DVC / "tmp") -> Iterator[Finding]:
    """Find another DVC command that is running here."""
    for pid, command in sorted(_holders(folder / "rwlock")):
        if _is_alive(pid):
            message = f"another DVC command runs here: {command} (process {pid})"
            yield warning("dvc_running", message, "wait until it ends; two at once wait for each other")
            return
    if _is_locked(folder / "lock"):
        yield warning("dvc_running", "another DVC command holds .dvc/tmp/lock", "wait until it ends, or end it")


def _holders(path: Path) -> set[tuple[int, str]]:
    """Return the processes in DVC's table of readers and writers, with their commands."""
    try:
        table = json.loads(_text(path) or "{}")
        writers = list(table.get("write", {}).values())
        readers = [entry for entries in table.get("read", {}).values() for entry in entries]
        return {(int(entry["pid"]), str(entry["cmd"])) for entry in (*writers, *readers)}
    except (ValueError, TypeError, KeyError, AttributeError):
        return set()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _is_locked(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        fcntl.flock(file, fcntl.LOCK_UN)
    return False


def outputs(study: str) -> Iterator[Finding]:
    """Find outputs of the study that differ from what their stage published."""
    if not LOCK.is_file():
        yield note("dvc", "no stage has run here yet", "dvc repro")
        return
    try:
        stages: Mapping[str, Any] = read_yaml(LOCK)["stages"]
    except (UserError, KeyError, TypeError):
        yield error(
            "dvc", f"{LOCK} is damaged", "git checkout dvc.lock, or remove it: DVC makes it again from its cache"
        )
        return
    folder = Path("outputs") / study
    outs = [
        out for stage in stages.values() for out in stage.get("outs", ()) if Path(out["path"]).is_relative_to(folder)
    ]
    missing = [out["path"] for out in outs if not Path(out["path"]).exists()]
    changed = [out["path"] for out in outs if Path(out["path"]).exists() and differs(out)]
    if missing:
        yield note("outputs", f"not here: {shortened(missing)}", "dvc checkout brings them back, dvc repro makes them")
    if changed:
        yield warning(
            "outputs",
            f"changed since their stage published them: {shortened(changed)}",
            "dvc checkout brings the published ones back (dvc repro makes them again); edit inputs, not outputs",
        )


def differs(out: Mapping[str, Any]) -> bool:
    """Return whether an output is not what dvc.lock says: by number and size of files, then by content."""
    path = Path(out["path"])
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    files = [file for file in files if not (file.name.startswith(".") and file.name.endswith(".tmp"))]
    size = sum(file.stat().st_size for file in files)
    if size != out.get("size", size) or len(files) != out.get("nfiles", len(files)):
        return True
    if out.get("hash", "md5") != "md5" or "md5" not in out or size > LARGEST:
        return False
    return digest(path, files) != out["md5"]


def digest(path: Path, files: list[Path]) -> str:
    """Return DVC's hash of a file or folder: a folder's is the MD5 of the list of its files, with the suffix .dir."""
    if not path.is_dir():
        return _md5(path)
    rows = [{"md5": _md5(file), "relpath": file.relative_to(path).as_posix()} for file in files]
    listing = json.dumps(sorted(rows, key=lambda row: row["relpath"]), sort_keys=True)
    return hashlib.md5(listing.encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
