"""Checks of disk space, of folders that must be written, and of work that nobody will go on with."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.cli.doctor.findings import Finding, count, error, note, shortened, warning
from pipeline.cli.forecast import Disk
from pipeline.core import paths
from pipeline.study import Params

SCARCE = 1.2  # times what is needed should be free
STALE = 14  # days
DAY = 86400
PLACES = (Path("outputs"), paths.WORK, paths.REPORT)


def space(needed: Disk, folder: Path = Path()) -> Iterator[Finding]:
    """Free space against the forecast; what outputs already take is not asked for again."""
    free, wanted = shutil.disk_usage(folder).free, max(0.0, needed.total - size_of(Path("outputs")))
    told = f"the study needs about {wanted / 1e9:.3g} GB of disk, {free / 1e9:.3g} GB are free"
    if wanted > free:
        yield error("disk", told, "make room (make prune, dvc gc -w), or lower copies or finetune.keep_checkpoints")
    elif wanted * SCARCE > free:
        yield warning("disk", told, "make room before you start: make prune, dvc gc -w")
    if needed.images is None:
        yield note("disk", "the number of images is not known yet, so they are not in the estimate", "run it with data")


def size_of(folder: Path) -> int:
    """Bytes of the files below a folder."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def permissions() -> Iterator[Finding]:
    """Folders that stages write."""
    for place in PLACES:
        nearest = next(path for path in (place, *place.absolute().parents) if path.exists())
        if not nearest.is_dir():
            yield error(
                "permissions", f"{nearest} is a file, not a folder", "move it away; stages write a folder there"
            )
        elif not os.access(nearest, os.W_OK | os.X_OK):
            yield error("permissions", f"{nearest} cannot be written", "mend its owner or mode, or work elsewhere")
    for name in ("TMPDIR", "HF_HOME", "TORCH_HOME"):
        told = os.environ.get(name)
        if told and Path(told).is_dir() and not os.access(told, os.W_OK | os.X_OK):
            yield warning(
                "permissions", f"{name} is {told}, which cannot be written", "mend it, or name another folder"
            )


def stale_work(params: Params, now: float | None = None) -> Iterator[Finding]:
    """Work folders that were last touched long ago, and what killed stages left half published."""
    now = time.time() if now is None else now
    old = [path for path in _folders(paths.WORK) if path.name != "names" and now - touched(path) > STALE * DAY]
    if old:
        names, size = shortened(sorted(path.name for path in old)), sum(map(size_of, old))
        yield warning(
            "stale_work",
            f"{count(len(old), 'folder')} of work untouched for {STALE} days, {size / 1e9:.3g} GB: {names}",
            "make prune clears work/; finished outputs stay, unfinished stages start again",
        )
    outputs = paths.outputs(params.study)
    half = [path for path in outputs.rglob(".*.tmp") if path.is_dir()] if outputs.is_dir() else []
    if half:
        told = shortened([path.as_posix() for path in half])
        yield warning("stale_work", f"half published by a killed stage: {told}", "remove it while no stage runs")


def touched(folder: Path) -> float:
    """When anything in a folder was last written."""
    return max((path.lstat().st_mtime for path in (folder, *folder.rglob("*"))), default=0.0)


def _folders(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
