"""The published tables of a grid: scores, losses, the protocol's summary, curves, pictures, kept models."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pipeline.core import files, paths, tables
from pipeline.segmentation import convergence, saved_model, selecting
from pipeline.segmentation.class_scores import ScoreRow
from pipeline.stages.segment import protocol, trajectories
from pipeline.stages.segment.cells import Cell, SegmenterSetup

COLUMNS = ("segmenter", "training_set", "seed", "split", "test_set", "image", "area", *protocol.METRICS)


@dataclass(frozen=True)
class Results:
    """What finished cells of one segmenter have left."""

    setup: SegmenterSetup
    cells: list[tuple[ScoreRow, dict[str, Any]]]  # of each: the columns that name it, and the result of run_cell
    records: list[dict[str, Any]]  # the lines of cells.json
    is_volume: bool

    @classmethod
    def of(cls, setup: SegmenterSetup, cells: list[Cell]) -> Self:
        """Read the results of finished cells. Raises UserError where one is missing or damaged."""
        read = [(cell.unit(setup.name), cell.result) for cell in cells]
        records = [cell.record(setup.name, result).record() for cell, (_, result) in zip(cells, read, strict=True)]
        return cls(setup, read, records, cells[0].train.spec.ndim == 3)

    @property
    def fingerprint(self) -> str:
        """What identifies the tables of these cells."""
        cells = [record["fingerprint"] for record in self.records]
        return files.fingerprint(self.setup.name, self.setup.segment, cells, self.records)

    def rows(self, table: str) -> list[ScoreRow]:
        """Return the rows of a table of all cells; none where the segmenter or the settings leave it out."""
        return [unit | row for unit, result in self.cells for row in result.get(table, ())]


def publish(setup: SegmenterSetup, cells: list[Cell], kept: list[Cell]) -> None:
    """Gather finished cells into tables, pictures, and kept/<training set>/seed_<seed>."""
    results = Results.of(setup, cells)
    work = paths.work("segment", results.fingerprint)
    write_tables(work, results)
    _copy_pictures(cells, work)
    for cell in kept:
        saved_model.copy_model(cell.model, work / "kept" / cell.training_set / f"seed_{cell.seed}")
    files.publish(work, paths.segmentation(setup.study, setup.name))


def write_tables(work: Path, results: Results) -> None:
    """Write scores, losses and curves, the protocol's summary, and cells.json."""
    scores = results.rows("scores")
    _write_scores(work / "scores.csv", scores)
    losses = [unit | {"step": step} | row for unit, one in results.cells for step, row in enumerate(one["losses"])]
    tables.write_table(work / "losses.csv", losses)
    lines = protocol.summary(scores, results.setup.segment)
    tables.write_table(work / "protocol.csv", lines, protocol.columns(lines))
    files.write_json(work / "protocol.json", protocol.report(lines, results.setup.segment, results.is_volume))
    files.write_json(work / "cells.json", results.records)
    if steps := results.rows("trajectory"):
        tables.write_table(work / "steps.csv", steps, trajectories.COLUMNS)
    if curves := results.rows("convergence"):
        tables.write_table(work / "convergence.csv", curves, convergence.COLUMNS)
    if looks := results.rows("selection"):
        tables.write_table(work / "selection.csv", looks, selecting.COLUMNS)


def _write_scores(path: Path, scores: list[ScoreRow]) -> None:
    """Write one row per scored image: COLUMNS, the metrics that only some sets have, then those of single classes."""
    optional = [name for name in protocol.OPTIONAL_METRICS if name in scores[0]]
    classes = sorted({column for row in scores for column in row} - {*COLUMNS, *optional})
    tables.write_table(path, scores, [*COLUMNS, *optional, *classes])


def _copy_pictures(cells: list[Cell], work: Path) -> None:
    """Copy the pictures of each training set's first seed."""
    for cell in [cell for cell in cells if cell.seed == cells[0].seed]:
        for folder in [folder for folder in (cell.pictures, cell.heatmaps) if folder.is_dir()]:
            shutil.copytree(folder, work / folder.name / cell.training_set, dirs_exist_ok=True)
