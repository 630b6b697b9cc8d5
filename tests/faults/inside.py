"""What happens inside a stage's process on purpose: kills at the k-th file operation, power cuts, limits, NaN, clocks.

Runs in children of the fork server (launching.py). File operations are seen by an audit hook: opening for writing,
renaming, linking, removing, making folders, and flushes.
"""

import json
import os
import resource
import runpy
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SEEN = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}
NOT_WORK = ("work/logs", "work/locks")  # begun before the stage does anything


@dataclass(frozen=True)
class Fault:
    """What is to go wrong in one process."""

    kill_at: int | None = None  # file operation at which it gets SIGKILL; a file it opens is left empty
    stop_at: int | None = None  # file operation at which it gets SIGSTOP
    power: bool = False  # everything not flushed by then is lost with it
    without: tuple[str, ...] = ()  # protections taken out: rename, fsync, fingerprint
    file_size: int | None = None  # bytes of the largest file (RLIMIT_FSIZE)
    bound: bool = False  # permissions bind it, as they bind everybody but root
    nan_at: int | None = None  # optimiser step with a loss that is not a number
    clock: float = 0.0  # seconds by which the clock jumps to and fro at each look


@dataclass
class Operations:
    """Counts the file operations of a stage inside its folder."""

    folder: str
    fault: Fault
    progress: Path
    seen: list[str] = field(default_factory=list)
    flushed: dict[int, int] = field(default_factory=dict)  # inode: size
    over: bool = False

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """The hook: one more operation, at which the process may have to die."""
        if event not in SEEN or (event == "open" and not _writes(arguments)):
            return
        path = self._inside(arguments[1] if event in ("os.rename", "os.link") else arguments[0])
        if path is not None:
            self.step(path, empties=event == "open" and _empties(arguments))

    def step(self, path: str, empties: bool = False) -> None:
        """Notes it, tells of the first one, and dies at the chosen one."""
        if self.over:
            return
        self.seen.append(path)
        if len(self.seen) == 1:
            os.close(os.open(self.progress, os.O_CREAT | os.O_WRONLY))
        if len(self.seen) == self.fault.stop_at:
            os.kill(os.getpid(), signal.SIGSTOP)
        if len(self.seen) == self.fault.kill_at:
            self.over = True
            if empties:
                os.close(os.open(os.path.join(self.folder, path), os.O_CREAT | os.O_WRONLY | os.O_TRUNC))
            self.die()

    def die(self) -> None:
        if self.fault.power:
            self.cut()
        os.kill(os.getpid(), signal.SIGKILL)

    def cut(self) -> None:
        """Loses the content of every file of this run that was not flushed since it was written."""
        self.over = True
        for path in Path(self.folder).rglob("*"):
            if path.is_file() and not path.is_symlink() and _recent(path) and not self._safe(path):
                os.truncate(path, 0)

    def _safe(self, path: Path) -> bool:
        about = path.stat()
        return self.flushed.get(about.st_ino) == about.st_size

    def _inside(self, path: Any) -> str | None:
        if isinstance(path, int):
            return None
        whole = os.path.abspath(os.fspath(path))
        if isinstance(whole, bytes) or not whole.startswith(self.folder + os.sep):
            return None
        own = whole[len(self.folder) + 1 :]
        return None if own.startswith(NOT_WORK) else own


BEGAN = time.time()


def _recent(path: Path) -> bool:
    return path.stat().st_mtime >= BEGAN


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) if isinstance(flags, int) else "r" not in (mode or "r")


def _empties(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool(flags & os.O_TRUNC) if isinstance(flags, int) else "w" in (mode or "")


def run(folder: str, script: str, argv: list[str], told: str, variables: dict[str, str], fault: Fault) -> None:
    """The whole life of one process: a stage's script as `python stages/x.py` would run it, in the study's folder."""
    global BEGAN
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        stream.flush()
        handle = os.open(told, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o666)
        os.dup2(handle, number)
    os.chdir(folder)
    os.environ.update(variables)
    sys.argv = [script, *argv]
    BEGAN = time.time() - 0.02  # file systems round times
    operations = Operations(folder, fault, Path(f"{told}.progress"))
    _watch_flushes(operations)
    _prepare(fault)
    sys.addaudithook(operations.audit)
    try:
        runpy.run_path(script, run_name="__main__")
        if fault.power and fault.kill_at is None:
            operations.cut()  # right after success
    finally:
        operations.over = True
        sys.stderr.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        Path(f"{told}.seen").write_text(json.dumps(operations.seen))  # on another disk than the study


def _watch_flushes(operations: Operations) -> None:
    flush = os.fsync

    def flushing(handle: Any) -> None:
        operations.step("fsync")
        if "fsync" in operations.fault.without:
            return
        flush(handle)
        about = os.fstat(handle if isinstance(handle, int) else handle.fileno())
        operations.flushed[about.st_ino] = about.st_size

    os.fsync = flushing


def _prepare(fault: Fault) -> None:
    for name in fault.without:
        WITHOUT[name]()
    if fault.file_size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_size, resource.RLIM_INFINITY))
    if fault.nan_at is not None:
        _inject_nan(fault.nan_at)
    if fault.clock:
        _jumping(fault.clock)
    if fault.bound and os.getuid() == 0:
        _bind()


def _bind() -> None:
    """Takes from root the capabilities by which permissions do not bind it (Linux, version 3 of capset)."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    override, search, owner = 1 << 1, 1 << 2, 1 << 3  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER
    assert libc.capget(header, sets) == 0
    sets[0] &= ~(override | search | owner) & 0xFFFFFFFF  # of the effective ones
    assert libc.capset(header, sets) == 0


def _no_rename() -> None:
    """Files are written where they belong, at once."""
    from contextlib import contextmanager

    from pipeline.core import files

    @contextmanager
    def replacing(path: Path) -> Any:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield path

    files.replacing = replacing


def _no_fingerprint() -> None:
    """Work of all parameters lies in one place."""
    from pipeline.core import files

    files.fingerprint = lambda *_: "0" * 16


def _no_seal() -> None:
    """Nothing is compared with the hashes it was finished with."""
    from pipeline.core import files

    files.damaged = lambda _: []


WITHOUT: dict[str, Callable[[], None]] = {
    "rename": _no_rename,
    "fsync": lambda: None,  # see _watch_flushes
    "fingerprint": _no_fingerprint,
    "seal": _no_seal,
}


def _inject_nan(step: int) -> None:
    from pipeline.training.callbacks import Losses

    add = Losses.add

    def adding(self: Any, losses: dict[str, Any]) -> None:
        spoilt = len(self.rows) + len(self.waiting) == step
        add(self, {name: value * float("nan") for name, value in losses.items()} if spoilt else losses)

    Losses.add = adding


def _jumping(seconds: float) -> None:
    clock, calls = time.time, iter(range(10**12))

    def jumping() -> float:
        return clock() + seconds * (1 if next(calls) % 2 else -1)

    time.time = jumping
