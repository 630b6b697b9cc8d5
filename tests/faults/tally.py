"""What the fault suite has tried, counted: `make faults` prints the sums as its last line."""

import json
import os
import sys
from collections import Counter
from pathlib import Path

KINDS = ("kills", "corruptions", "malformed", "requests", "losses")
VARIABLE = "TWINSYNTH_TALLY"  # a file to which every count is added as a line, by all processes
counted: Counter[str] = Counter({kind: 0 for kind in KINDS})


def count(kind: str, n: int = 1) -> None:
    """So many more of a kind have been tried."""
    assert kind in KINDS
    counted[kind] += n
    if place := os.environ.get(VARIABLE):
        with Path(place).open("a") as file:
            file.write(f"{kind} {n}\n")


def total(place: Path) -> dict[str, int]:
    """The sums of a file of counts."""
    sums = dict.fromkeys(KINDS, 0)
    for kind, n in (line.split() for line in place.read_text().splitlines()):
        sums[kind] += int(n)
    return sums


if __name__ == "__main__":
    sys.stdout.write(json.dumps(total(Path(sys.argv[1]))) + "\n")
