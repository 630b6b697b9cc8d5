"""A command that serves a page, in a process of its own, until Ctrl-C."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.conftest import REPOSITORY
from tests.patience import HUNG


@contextmanager
def served(*command: str, lines: int) -> Iterator[tuple[list[str], list[str]]]:
    """The lines that it prints first, and a list that receives its errors at the end; it must end with status 0."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    program = [sys.executable, "-m", "pipeline.cli", *command]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    errors: list[str] = []
    try:
        yield [process.stdout.readline() for _ in range(lines)], errors
        process.send_signal(signal.SIGINT)
        errors.append(process.communicate(timeout=HUNG)[1])
        assert process.returncode == 0
    finally:
        process.kill()
