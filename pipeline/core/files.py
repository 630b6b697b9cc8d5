"""Files that are never half written: temporary name, flush to disk, rename; folders are published whole."""

import errno
import hashlib
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.core.errors import UserError

TEMPORARY = ".*.tmp"  # names of what is being written; a killed process may leave some behind
SEAL = ".sums.json"  # the hashes of a finished folder's files, written last
PICTURES = (".png", ".nii.gz", ".tar")  # not in a seal: the manifest of their set has the hashes of all pictures
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
FULL_SIGNS = (
    "os error 28",
    "os error 27",
    "os error 30",
    "os error 13",
    "inline_container",
    "iostream error",
)


def temporary_name(name: str) -> str:
    """Return a name for what becomes `name`, which no process of any host that shares the folder has taken."""
    return f".{name}.{socket.gethostname()[:24]}.{os.getpid()}.{secrets.token_hex(4)}.tmp"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is flushed and renamed to `path`, on failure removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None:  # the system's word on a failed write does not name the file
            error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Raise UserError naming the path where the block cannot write: a full disk, a read-only folder."""
    try:
        yield
    except OSError as error:
        raise write_error(error, folder) from error


def write_error(error: OSError, folder: Path, what: str = "written") -> UserError:
    """Return the error of a file that cannot be written."""
    path, reason = error.filename2 or error.filename or folder, error.strerror or error
    return UserError(
        f"{path} cannot be {what} ({reason}); what is finished is kept; free some space or correct the permissions,"
        " then"
        " run the same command again"
    )


def write_failure(error: BaseException) -> str | None:
    """Return the message of an error caused by a full disk or a read-only folder; None for any other error."""
    if isinstance(error, OSError) and error.errno in FULL:
        return str(write_error(error, Path("work or outputs"), "read or written"))
    if any(sign in str(error) for sign in FULL_SIGNS):
        first = str(error).splitlines()[0]
        return str(write_error(OSError(first), Path("a file in work or outputs")))
    return None


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Write a file at once or not at all; `private`: for its owner alone (0600)."""
    with replacing(path) as temporary:
        if private:
            temporary.touch(mode=0o600)
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write JSON with sorted keys, at once or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Return the content of a JSON file. Raises UserError where it is damaged, OSError where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"{path} is damaged and not valid JSON ({reason}); remove it and run the stage that makes it"
        ) from None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 that a file with this content would have."""
    return hashlib.sha256(content).hexdigest()


def tree_sha256(folder: Path) -> str:
    """Return the SHA-256 of the names and contents of all files in a folder, temporary files and seals excepted."""
    total = hashlib.sha256()
    for path in finished_files(folder):
        total.update(f"{path.relative_to(folder).as_posix()}\0{sha256(path)}\n".encode())
    return total.hexdigest()


def finished_files(folder: Path) -> list[Path]:
    """Return the files of a folder and of its subfolders, temporary files and seals excepted."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and not p.match(TEMPORARY) and p.name != SEAL)


def seal(folder: Path) -> None:
    """Flush a finished folder to disk and write the hashes of its files, pictures excepted; the last file of all.

    Temporary files, which another process may be about to rename, are neither flushed nor hashed.
    """
    for path in (*(path for path in folder.rglob("*") if not path.match(TEMPORARY)), folder):
        flush(path)
    sealed = (path for path in finished_files(folder) if not path.name.endswith(PICTURES))
    sums = {path.relative_to(folder).as_posix(): sha256(path) for path in sealed}
    write_json(folder / SEAL, sums)
    flush(folder)


def is_intact(folder: Path) -> bool:
    """Return whether a folder is sealed and its files have not changed since."""
    return (folder / SEAL).is_file() and not damaged(folder)


def damaged(folder: Path) -> list[Path]:
    """Return the files of a sealed folder that are missing or have changed; none where the folder has no seal."""
    if not (folder / SEAL).is_file():
        return []
    try:
        sums: dict[str, str] = dict(read_json(folder / SEAL))
    except (OSError, ValueError, TypeError):
        return [folder / SEAL]
    return [folder / name for name, wanted in sums.items() if not _is(folder / name, wanted)]


def check(folder: Path) -> None:
    """Raise UserError where a published folder has changed since it was published."""
    if changed := damaged(folder):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise UserError(
            f"{changed[0]}{more} is damaged and differs from what was published; remove {folder} and run the stage"
            " that makes it"
            " (dvc repro does both)"
        )


def _is(path: Path, wanted: str) -> bool:
    try:
        return sha256(path) == wanted
    except OSError:
        return False


def flush(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # some network file systems flush no folders
            raise
    finally:
        os.close(handle)


def write_sealed(path: Path, value: Any) -> None:
    """Write JSON with its own hash, at once or not at all."""
    write_json(path, {"value": value, "sha256": _json_sha256(value)})


def read_sealed(path: Path) -> Any:
    """Return the value that `write_sealed` wrote; None where it is missing or damaged.

    A file of before seals, which has neither key, is taken as it is.
    """
    try:
        held = read_json(path)
        if isinstance(held, list) or not {"value", "sha256"} & set(held):
            return held
        return held["value"] if held["sha256"] == _json_sha256(held["value"]) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _json_sha256(value: Any) -> str:
    return sha256_of(json.dumps(value, sort_keys=True).encode())


def fingerprint(*parts: Any) -> str:
    """Return 16 hex digits that identify JSON-like values and models: parameters, inputs, a version."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot fingerprint {type(value).__name__}")


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder of outputs."""
    for path in folder.glob(TEMPORARY):
        if path.is_file():
            path.unlink(missing_ok=True)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a hard link where the file system allows it, else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _link_or_copy_names(source: str, target: str) -> None:
    link_or_copy(Path(source), Path(target))


def publish(folder: Path, target: Path) -> None:
    """Make `target` a copy (hard links where possible) of `folder`; `target` appears whole, by rename, and sealed.

    What killed processes left behind, temporary files in `folder` and staging folders beside `target`, is left out.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left_behind in target.parent.glob(f".{target.name}.*.tmp"):
        shutil.rmtree(left_behind, ignore_errors=True)
    staging, old = (_beside(target) for _ in range(2))
    left_out = shutil.ignore_patterns(TEMPORARY, SEAL)
    try:
        shutil.copytree(folder, staging, ignore=left_out, dirs_exist_ok=True, copy_function=_link_or_copy_names)
        staging.chmod(0o755)
        seal(staging)
        _exchange(staging, target, old)
        flush(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        with suppress(OSError):  # it holds what could not be put back
            old.rmdir()


def _exchange(staging: Path, target: Path, old: Path) -> None:
    """Rename `staging` to `target`, and what lies there to `old`; put it back where the second rename fails."""
    existed = target.exists()
    if existed:
        os.replace(target, old)
    try:
        os.replace(staging, target)
    except BaseException:
        if existed:
            os.replace(old, target)
        raise


def _beside(target: Path) -> Path:
    return Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent))
