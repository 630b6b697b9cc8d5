"""How long a training takes, through all its restarts: the seconds up to each step whose checkpoint was saved."""

import time
from pathlib import Path

from pipeline.core import files


class Clock:
    """Measures on the main process, and keeps what it has measured in a file beside the checkpoints.

    What a killed run did after its last checkpoint is done again, and counts once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.before: float | None = None  # seconds of earlier runs; None: nobody has measured them
        self.started = time.monotonic()

    def start(self, done: int) -> None:
        """Start to measure after so many steps."""
        self.before, self.started = (0.0 if done == 0 else self.seconds(done)), time.monotonic()

    def note(self, done: int) -> None:
        """Keep the seconds of the first so many steps, unless a part of them was not measured."""
        if self.before is not None:
            files.write_sealed(self.path, self._read() | {str(done): self.before + time.monotonic() - self.started})

    def seconds(self, done: int) -> float | None:
        """Return the seconds of the first so many steps; None where they were not measured."""
        return self._read().get(str(done))

    def _read(self) -> dict[str, float]:
        return files.read_sealed(self.path) or {}  # a damaged file has measured nothing
