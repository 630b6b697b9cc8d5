"""Damage to files, where they lie: a flipped bit, a lost end."""

import os
import random
from pathlib import Path


def flip(path: Path, bit: int) -> None:
    """Flips one bit in place, as a failing disk does: no new file, the same size."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ (1 << bit % 8)]))


def flip_somewhere(path: Path, rng: random.Random) -> None:
    flip(path, rng.randrange(8 * path.stat().st_size))


def truncate(path: Path, rng: random.Random) -> None:
    """Loses the end of a file; at least one byte."""
    os.truncate(path, rng.randrange(path.stat().st_size))


KINDS = {"flipped": flip_somewhere, "truncated": truncate}
