"""Which snapshots of a generator there are, and the table of their scores."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.core import files, paths, tables

COLUMNS = ("step", "score", "value", "low", "high", "n")


def kept_steps(study: str, generator: str, steps: Iterable[int]) -> list[int]:
    """Return those of some steps (finetune.snapshots) that the generator has kept; none if it is not trained."""
    return [step for step in sorted(steps) if folder(study, generator, step).is_dir()]


def folder(study: str, generator: str, step: int) -> Path:
    """Return the folder of one snapshot, in the layout of a finished generator."""
    return paths.generator(study, generator) / "snapshots" / f"{step:06d}"


def write(study: str, generator: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Publish steps.csv with one row per snapshot and score."""
    work = paths.work("snapshots", files.fingerprint(generator, rows))
    tables.write_table(work / "steps.csv", rows, COLUMNS)
    files.publish(work, paths.snapshots(study, generator))
