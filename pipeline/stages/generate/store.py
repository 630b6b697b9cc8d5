"""The work folder of a synthetic set: units of work, each made by one process, that are kept when a run is killed.

A unit is a batch, whose images are files of their own, or with `generate.shards` a tar shard of several batches. Its
row file comes last, so a unit without one, or with a damaged one, is made again.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files
from pipeline.data import shards
from pipeline.data.image_set import Row, add_pair, write_pair
from pipeline.data.sample import Sample
from pipeline.data.verification import is_intact
from pipeline.stages.generate.plan import Plan, PlannedImage

SHELF = 1000  # row files in one folder
Write = Callable[[PlannedImage, Sample, Mapping[str, Any], Mapping[str, str]], Row]  # image, sample, columns, text


@dataclass(frozen=True)
class Store:
    """The units of a plan in the folder `work`: the set is in work/set, the rows of every unit in work/rows."""

    work: Path
    plan: Plan
    shards: int | None = None  # images per shard, rounded up to whole batches; None: a file per image

    def __len__(self) -> int:
        return math.ceil(len(self.plan) / self._batches_per_unit)

    @property
    def folder(self) -> Path:
        """The folder of the set."""
        return self.work / "set"

    @property
    def _batches_per_unit(self) -> int:
        return 1 if self.shards is None else math.ceil(self.shards / self.plan.batch_size)

    def batches(self, unit: int) -> range:
        """Return the numbers of the batches of a unit."""
        first = unit * self._batches_per_unit
        return range(first, min(first + self._batches_per_unit, len(self.plan)))

    def rows(self, unit: int) -> list[Row]:
        """Return the rows of a unit; none where its row file is missing or damaged."""
        kept = files.read_sealed(self.row_file(unit)) or []
        return kept["rows"] if isinstance(kept, dict) else kept

    def all_rows(self) -> Iterator[Row]:
        """Yield the rows of all units."""
        return (row for unit in range(len(self)) for row in self.rows(unit))

    def is_intact(self, unit: int) -> bool:
        """Return whether the files of a unit are those that its row file was written for."""
        if self.shards is None:
            return all(is_intact(self.folder, row) for row in self.rows(unit))
        kept = files.read_sealed(self.row_file(unit)) or {}
        return isinstance(kept, dict) and self._shard_sha256(unit) == kept.get("sha256")

    @contextmanager
    def writing(self, unit: int) -> Iterator[Write]:
        """Yield the function that writes a pair of the unit and returns its row."""
        if self.shards is None:
            yield lambda image, sample, columns, text: write_pair(self.folder, sample, columns, text, image.shelf)
            return
        with shards.writing(self.folder, self._shard(unit)) as shard:

            def write(image: PlannedImage, sample: Sample, columns: Mapping[str, Any], text: Mapping[str, str]) -> Row:
                return add_pair(shard, image.position, sample, columns, text, image.shelf)

            yield write

    def keep(self, unit: int, rows: list[Row]) -> None:
        """Write the row file of a unit whose pairs have been written."""
        kept = rows if self.shards is None else {"rows": rows, "sha256": self._shard_sha256(unit)}
        files.write_sealed(self.row_file(unit), kept)

    def sweep(self) -> None:
        """Remove shards that killed processes have left half written."""
        if self.shards is not None:
            for unit in range(0, len(self), shards.SHELF):
                files.sweep((self.folder / self._shard(unit)).parent)

    def row_file(self, unit: int) -> Path:
        """Return the path of the row file of a unit."""
        return self.work / "rows" / f"{unit // SHELF:06d}" / f"{unit:09d}.json"

    def _shard(self, unit: int) -> str:
        return shards.name_of(unit, len(self))

    def _shard_sha256(self, unit: int) -> str | None:
        path = self.folder / self._shard(unit)
        return files.sha256(path) if path.is_file() else None
