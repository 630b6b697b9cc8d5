"""Checkpoints of a training run: atomic, few, of one format whatever the number and kind of processes."""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime

State = dict[str, Any]
PATTERN = "[0-9]*.pt"


def is_intact(path: Path) -> bool:
    """Whether a file that torch.save wrote exists and all its parts have their checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except Exception:  # noqa: BLE001  (a damaged archive may raise anything)
        return False


def load(path: Path) -> State:
    """Load what torch.save wrote and check the checksums of its parts. Raises UserError where it is damaged."""
    try:
        if not is_intact(path):
            raise zipfile.BadZipFile("a part has another checksum")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); remove it to resume from the one before, or start again"
        ) from error


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of a finished run below its folder, if there are any."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


class Checkpoints:
    """The newest few states of one run, below folder/checkpoints; none where there is no folder."""

    def __init__(self, folder: Path | None, identity: str, keep: int, runtime: Runtime) -> None:
        self.folder = None if folder is None else folder / "checkpoints"
        self.identity, self.keep, self.runtime = identity, keep, runtime

    def save(self, step: int, state: State) -> None:
        """Write a full state, on the main process, completely or not at all; then remove the oldest beyond `keep`."""
        if self.folder is None or not self.runtime.is_main:
            return
        path = self.folder / f"{step:08d}.pt"
        with files.writing_to(self.folder), files.replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(state | {"identity": self.identity}, file)
        for path in self._paths(step)[: -self.keep]:
            path.unlink()

    def newest(self, until: int) -> State | None:
        """Load the newest state of at most so many steps, the same on every process; None where there is none.

        Raises UserError where the file is damaged, or belongs to a run with other params, data or method.
        """
        path = self._newest_path(until)
        if path is None:
            return None
        state = load(path)
        if not isinstance(state, dict) or "identity" not in state:
            raise UserError(f"{path} is not a checkpoint of a training; remove {path.parent} to start again")
        if state["identity"] != self.identity:
            raise UserError(
                f"{path} is a checkpoint of other params, data or method ({state['identity'] or 'unnamed'}, this run is"
                f" {self.identity or 'unnamed'}); remove {path.parent} to start again, or restore what it was made with"
            )
        return state

    def _newest_path(self, until: int) -> Path | None:
        """Choose on the main process, for all; it also removes what a killed process left half-written."""
        name: str | None = None
        if self.folder is not None and self.runtime.is_main:
            for left_behind in self.folder.glob(files.TEMPORARY):
                left_behind.unlink(missing_ok=True)
            name = next((path.name for path in reversed(self._paths(until))), None)
        name = self.runtime.broadcast(name)
        return None if self.folder is None or name is None else self.folder / name

    def _paths(self, until: int) -> list[Path]:
        paths = sorted(self.folder.glob(PATTERN)) if self.folder is not None else []
        return [path for path in paths if int(path.stem) <= until]
