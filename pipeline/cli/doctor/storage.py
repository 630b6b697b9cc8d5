"""Checks of disk space, of folders that must be writable, and of abandoned work."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.cli.doctor.findings import Finding, count, error, note, shortened, warning
from pipeline.cli.forecast import DiskUsage
from pipeline.core import paths

SCARCE = 1.2  # times what is needed should be free
STALE = 14  # days
DAY = 86400
PLACES = (Path("outputs"), paths.WORK, paths.REPORTS)


def space(needed: DiskUsage, folder: Path = Path()) -> Iterator[Finding]:
    """Compare free space with the forecast, less what the outputs take already."""
    free, required = shutil.disk_usage(folder).free, max(0.0, needed.total - size_of(Path("outputs")))
    message = f"the study needs about {required / 1e9:.3g} GB of disk, {free / 1e9:.3g} GB are free"
    if required > free:
        yield error("disk", message, "make room (make prune, dvc gc -w), or lower copies or finetune.keep_checkpoints")
    elif required * SCARCE > free:
        yield warning("disk", message, "make room before you start: make prune, dvc gc -w")
    if needed.images is None:
        yield note("disk", "the number of images is not known yet, so they are not in the estimate", "run it with data")


def size_of(folder: Path) -> int:
    """Return the bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def permissions() -> Iterator[Finding]:
    """Check that the folders which stages write are writable."""
    for place in PLACES:
        nearest = next(path for path in (place, *place.absolute().parents) if path.exists())
        if not nearest.is_dir():
            yield error(
                "permissions", f"{nearest} is a file, not a folder", "move it away; stages write a folder there"
            )
        elif not os.access(nearest, os.W_OK | os.X_OK):
            yield error("permissions", f"{nearest} cannot be written", "mend its owner or mode, or work elsewhere")
    for name in ("TMPDIR", "HF_HOME", "TORCH_HOME"):
        folder = os.environ.get(name)
        if folder and Path(folder).is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            yield warning(
                "permissions", f"{name} is {folder}, which cannot be written", "mend it, or name another folder"
            )


def stale_work(study: str, now: float | None = None) -> Iterator[Finding]:
    """Find work folders that were last modified long ago, and folders that killed stages left half published."""
    now = time.time() if now is None else now
    old = [path for path in _folders(paths.WORK) if path.name != "names" and now - last_modified(path) > STALE * DAY]
    if old:
        names, size = shortened(sorted(path.name for path in old)), sum(map(size_of, old))
        yield warning(
            "stale_work",
            f"{count(len(old), 'folder')} of work untouched for {STALE} days, {size / 1e9:.3g} GB: {names}",
            "make prune clears work/; finished outputs stay, unfinished stages start again",
        )
    outputs = paths.outputs(study)
    partial = [path for path in outputs.rglob(".*.tmp") if path.is_dir()] if outputs.is_dir() else []
    if partial:
        names = shortened([path.as_posix() for path in partial])
        yield warning("stale_work", f"half published by a killed stage: {names}", "remove it while no stage runs")


def last_modified(folder: Path) -> float:
    """Return when anything in a folder was last written, in seconds since the epoch."""
    return max((path.lstat().st_mtime for path in (folder, *folder.rglob("*"))), default=0.0)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
