"""Where compared cells were trained: a CPU and a GPU, or two versions of torch, differ without any synthetic image.

The stage segment records both per cell, outside its fingerprint (segment.cells), so that a grid resumed elsewhere may
pair cells of two kinds. They are refused here. A cell finished before they were recorded counts as unknown and pairs
with any. Pooled folds are checked by each fold's own comparison, not again.
"""

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import files, paths
from pipeline.core.errors import UserError

log = logging.getLogger(__name__)
Machine = Mapping[str, Any]  # of one cell: device, torch (None: unknown) and fingerprint
Machines = Mapping[tuple[str, str], Machine]  # by training set and seed


def read_machines(folder: Path, training_sets: Iterable[str], seeds: Iterable[str]) -> Machines:
    """Return where the cells of a published grid were trained."""
    path, names = folder / "cells.json", set(training_sets)
    cells = files.read_json(path) if path.is_file() else []
    found = {(cell["training_set"], str(cell["seed"])): cell for cell in cells}
    return {
        (name, seed): {key: found.get((name, seed), {}).get(key) for key in ("device", "torch", "fingerprint")}
        for seed in seeds
        for name in sorted(names)
    }


def check_arms(segmenter: str, machines: Machines, reference: str, stage: str | None = None) -> None:
    """Raise UserError where an arm's cell and the reference's of the same seed come from different machines.

    `stage`, as DVC names it, is what trained the cells: segment@<segmenter> unless given.
    """
    for (name, seed), machine in machines.items():
        if name != reference:
            first = reference, machines.get((reference, seed), {})
            _check(f"{segmenter}, seed {seed}", first, (name, machine), stage or f"segment@{segmenter}")


def check_segmenters(machines: Mapping[str, Machines], training_set: str, reference: str) -> None:
    """Raise UserError where a segmenter's cell and the reference's of the same seed come from different machines."""
    for name in sorted(machines.keys() - {reference}):
        for (_, seed), machine in machines[name].items():
            first = reference, machines[reference].get((training_set, seed), {})
            _check(f"{training_set}, seed {seed}", first, (name, machine), f"segment@{name}")


def mention_unknown(cells: Iterable[Machine]) -> None:
    """Log, once per comparison, of how many cells it is unknown where they were trained."""
    machines = list(cells)
    unknown = sum(not _is_known(machine) for machine in machines)
    if unknown:
        log.info("%d of %d cells: the record does not say on which device they were trained", unknown, len(machines))


def _check(where: str, one: tuple[str, Machine], other: tuple[str, Machine], stage: str) -> None:
    """Raise UserError where two named cells are known to come from different devices or versions of torch."""
    (name, first), (other_name, second) = one, other
    if not (_is_known(first) and _is_known(second)) or _place(first) == _place(second):
        return
    raise UserError(
        f"{where}: {name} was trained on {_place(first)}, {other_name} on {_place(second)}; their difference would"
        f" include that of the machines. On a machine like the first, remove"
        f" {paths.work('segment', second['fingerprint'])} and run"
        f" `dvc repro --force --single-item {stage}`, then compare again"
    )


def _is_known(machine: Machine) -> bool:
    return bool(machine.get("device") and machine.get("torch"))


def _place(machine: Machine) -> str:
    return f"{machine['device']} with torch {machine['torch']}"
