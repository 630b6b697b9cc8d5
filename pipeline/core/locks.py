"""Locks for one process at a time on one output; the kernel releases a lock when its holder ends, however it ends."""

import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from pipeline.core import paths
from pipeline.core.errors import UserError

log = logging.getLogger(__name__)


@contextmanager
def exclusive(name: str) -> Iterator[None]:
    """Hold work/locks/<name>.lock during the block. Raises UserError naming the process that holds it already.

    Where the folder cannot be written or the file system knows no locks, the block runs without one.
    """
    file = _opened(name)
    if file is None:
        yield
        return
    with file:  # closing it gives the lock back
        _take(file, name)
        yield


@contextmanager
def wait_for(name: str) -> Iterator[None]:
    """Hold work/locks/<name>.lock during the block, waiting for the process that holds it; otherwise as `exclusive`."""
    file = _opened(name)
    if file is None:
        yield
        return
    with file:
        try:
            _wait(file, name)
        except OSError as error:
            log.warning("%s: no lock (%s); several processes may write it at once", name, error)
        yield


@contextmanager
def attempt(name: str) -> Iterator[bool]:
    """Hold work/locks/<name>.lock during the block if no other process holds it; yield whether the block may work.

    It may also where the folder cannot be written or the file system knows no locks.
    """
    file = _opened(name)
    if file is None:
        yield True
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        except OSError as error:
            log.warning("%s: no lock (%s); several processes may write it at once", name, error)
            free = True
        yield free


def _opened(name: str) -> IO[str] | None:
    path = paths.lock(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+", encoding="utf-8")
    except OSError:
        return None  # the stage will tell of it where it writes


def _wait(file: IO[str], name: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.info("another process makes %s; waiting for it", name)
        fcntl.flock(file, fcntl.LOCK_EX)


def _take(file: IO[str], name: str) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise UserError(
            f"{name} is already being made in this folder by {holder}; wait until it ends, or stop it"
        ) from None
    except OSError as error:
        log.warning("%s: no lock (%s); see to it yourself that the stage runs only once at a time", name, error)
        return
    _sign(file)


def _sign(file: IO[str]) -> None:
    """Write who holds the lock, for the message to others; on a full disk the message lacks the name."""
    try:
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
    except OSError:
        return
