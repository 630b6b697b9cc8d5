"""The grid training sets x seeds of one segmenter, dealt to all processes; a finished cell is never run twice.

A cell is identified by what it computes (segmenter, settings, content of its images, random stream), so that arms share
equal cells and the same command resumes. Processes meet only at a counter and at the cells' files: no process waits for
another in a collective that could time out. On several machines the folder `work` must be shared.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files, paths, tracking
from pipeline.data.image_set import ImageSet
from pipeline.errors import UserError
from pipeline.params import Params
from pipeline.runtime import Counter, Runtime, counter
from pipeline.segmentation import Row, build_segmenter, score_set, settings, threads, train_segmenter

POLL = 0.2  # seconds between looks at the cells of other processes
COLUMNS = ("segmenter", "training_set", "seed", "split", "test_set", "image", "area", "dice", "iou")


@dataclass(frozen=True)
class Cell:
    """One training set with one seed."""

    training_set: str
    seed: int  # as listed; arms are paired by it
    stream: str  # name of the random stream: the seed with the arm's offset
    train: ImageSet
    fingerprint: str
    synthetic_share: float | None = None  # of every batch; None: as the images are counted

    @property
    def path(self) -> Path:
        """The file that exists once the cell is finished."""
        return paths.work("segment", self.fingerprint) / "cell.json"


def plan(params: Params, segmenter: str) -> list[Cell]:
    """All cells in the order of params.yaml, seed by seed. Raises UserError where an input or parameter is wrong."""
    real = ImageSet.open(paths.real(params.study))
    about = dict(build_segmenter(params, segmenter, real.spec).about)
    scored = [content(real.split(name), ("id", "source")) for name in ("val", "test")]
    shared = (settings(params, segmenter), about, scored)
    cells = []
    for seed in params.segment.seeds:
        for name, arm in params.training_sets.items():
            train, stream = _open(params, name, real), f"segment/{seed + arm.seed_offset}"
            share = () if arm.synthetic_share is None else (arm.synthetic_share,)
            identity = files.fingerprint(*shared, content(train), stream, *share)
            cells.append(Cell(name, seed, stream, train, identity, arm.synthetic_share))
    return cells


def content(images: ImageSet, further: tuple[str, ...] = ()) -> str:
    """Identifies the pixels of a set and their order, whatever its name."""
    columns = ("sha256", "mask_sha256", *further)
    return files.fingerprint(images.spec, [[row[column] for column in columns] for row in images])


def run_grid(params: Params, segmenter: str, runtime: Runtime) -> None:
    """Runs the cells that are not finished yet; the main process then publishes the tables of all of them."""
    cells = plan(params, segmenter)
    distinct = list({cell.fingerprint: cell for cell in cells}.values())
    claimed = claims(distinct, counter(runtime, f"segment/{segmenter}"))
    alone = Runtime.alone(threads(params), runtime.device)

    def finish(cell: Cell) -> None:
        if not cell.path.is_file():
            files.write_json(cell.path, run_cell(params, segmenter, cell, alone))

    if not runtime.is_main:
        for cell in claimed:
            finish(cell)
        return
    done = finished(distinct, claimed, finish)
    for _ in tracking.progress(done, f"segment {segmenter}", total=len(distinct)):
        pass
    publish(params, segmenter, cells)


def claims(cells: list[Cell], numbers: Counter) -> Iterator[Cell]:
    """The cells that this process is to run: each the next one that nobody has taken."""
    while (number := numbers.next()) < len(cells):
        yield cells[number]


def finished(cells: list[Cell], claimed: Iterator[Cell], finish: Callable[[Cell], None]) -> Iterator[Cell]:
    """Works on claimed cells, then waits for those of other processes; yields every cell once it is finished."""
    waiting = cells
    while waiting:
        own = next(claimed, None)
        if own is not None:
            finish(own)
        ready = [cell for cell in waiting if cell.path.is_file()]
        yield from ready
        waiting = [cell for cell in waiting if cell not in ready]
        if own is None and waiting:
            time.sleep(POLL)


def run_cell(params: Params, segmenter: str, cell: Cell, runtime: Runtime) -> dict[str, Any]:
    """Trains one segmenter and scores it on validation and test images."""
    share = cell.synthetic_share
    trained, losses = train_segmenter(params, segmenter, cell.train, cell.stream, runtime, synthetic_share=share)
    real = ImageSet.open(paths.real(params.study))
    scored = [score_set(trained, real.split(name), params.segment.batch_size) for name in ("val", "test")]
    return {
        "weights": trained.about["weights"],
        "steps": len(losses),
        "scores": [*scored[0], *scored[1]],
        "losses": losses,
    }


def publish(params: Params, segmenter: str, cells: list[Cell]) -> None:
    """Gathers finished cells into scores.csv, losses.csv and cells.json of the segmenter's folder."""
    scores: list[Row] = []
    losses: list[Row] = []
    records: list[Row] = []
    for cell in cells:
        result = files.read_json(cell.path)
        name = {"segmenter": segmenter, "training_set": cell.training_set, "seed": cell.seed}
        scores += [name | row for row in result["scores"]]
        losses += [name | {"step": step} | row for step, row in enumerate(result["losses"])]
        records.append(name | _record(cell) | {key: result[key] for key in ("steps", "weights")})
    work = paths.work("segment", files.fingerprint(segmenter, [cell.fingerprint for cell in cells], records))
    classes = sorted({column for row in scores for column in row} - set(COLUMNS))
    tracking.write_table(work / "scores.csv", scores, [*COLUMNS, *classes])
    tracking.write_table(work / "losses.csv", losses)
    files.write_json(work / "cells.json", records)
    files.publish(work, paths.segmentation(params.study, segmenter))


def _record(cell: Cell) -> Row:
    synthetic = sum(row["synthetic"] for row in cell.train)
    counts = {"n_real": len(cell.train) - synthetic, "n_synthetic": synthetic}
    return counts | {"fingerprint": cell.fingerprint, "stream": cell.stream}


def _open(params: Params, name: str, real: ImageSet) -> ImageSet:
    train = ImageSet.open(paths.training_set(params.study, name))
    if train.spec != real.spec:
        raise UserError(f"{train.folder} holds {train.spec}, {real.folder} {real.spec}; run the stage mix again")
    return train
