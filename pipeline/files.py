"""Files that are never half written: temporary name, flush to disk, rename; folders are published whole."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.errors import UserError

TEMPORARY = ".*.tmp"  # names of what is being written; a killed process may leave some behind


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed and renamed to `path`, on failure removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raises UserError naming the path where the block cannot write: a full disk, a folder that is not ours."""
    try:
        yield
    except OSError as error:
        path, reason = error.filename or folder, error.strerror or error
        raise UserError(
            f"{path} cannot be written ({reason}); what is finished is kept: make room or mend the permissions, then"
            " run the same command again"
        ) from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file at once or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON with sorted keys, at once or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(content: bytes) -> str:
    """Hash of a file's content before it is written."""
    return hashlib.sha256(content).hexdigest()


def tree_sha256(folder: Path) -> str:
    """Hash of the names and contents of all files under a folder, without temporary ones."""
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and not p.match(TEMPORARY)):
        total.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    return total.hexdigest()


def fingerprint(*parts: Any) -> str:
    """16 hex digits that identify parameters, inputs and method version; any JSON-like values and pydantic models."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot fingerprint {type(value).__name__}")


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _link_or_copy_names(source: str, target: str) -> None:
    link_or_copy(Path(source), Path(target))


def publish(folder: Path, target: Path) -> None:
    """Makes `target` a copy (hard links where possible) of `folder`; `target` appears whole, by rename.

    What killed processes left behind, temporary files in `folder` and staging folders beside `target`, is left out.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left_behind in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(left_behind, ignore_errors=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
    temporary = shutil.ignore_patterns(TEMPORARY)
    try:
        shutil.copytree(folder, staging, ignore=temporary, dirs_exist_ok=True, copy_function=_link_or_copy_names)
        staging.chmod(0o755)
        if target.exists():
            shutil.rmtree(target)
        os.replace(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
