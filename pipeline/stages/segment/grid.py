"""The grid training sets x seeds of one segmenter, dealt to all processes; a finished cell is never run twice.

A cell is identified by what it computes (segmenter, settings, content of its images, random stream), so that arms share
equal cells and the same command resumes. Processes meet only at a counter and at the cells' files: no process waits for
another in a collective that could time out. On several machines the folder `work` must be shared.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.runtime import Counter, Runtime, counter
from pipeline.data.image_set import ImageSet
from pipeline.segmentation import convergence, rater_scoring, saved_model
from pipeline.segmentation.convergence import Convergence
from pipeline.segmentation.params import Segment
from pipeline.segmentation.scoring import Row, score_set
from pipeline.segmentation.train import Course, build_segmenter, scoring, settings, threads, train_segmenter
from pipeline.stages.segment import heatmaps, protocol, sample_pictures, trajectories
from pipeline.study import Params

SCORED = ("val", "test")  # splits; both hold real images only
POLL = 0.2  # seconds between looks at the cells of other processes
COLUMNS = ("segmenter", "training_set", "seed", "split", "test_set", "image", "area", *protocol.METRICS)


@dataclass(frozen=True)
class Cell:
    """One training set with one seed."""

    training_set: str
    seed: int  # as listed; arms are paired by it
    stream: str  # name of the random stream: the seed with the arm's offset
    train: ImageSet
    fingerprint: str
    synthetic_share: float | None = None  # of every batch; None: as the images are counted
    keep: str = "none"  # segment.keep

    @property
    def path(self) -> Path:
        """The file of its scores and losses, written last."""
        return paths.work("segment", self.fingerprint) / "cell.json"

    @property
    def result(self) -> dict[str, Any]:
        """What `run_cell` gave. Raises UserError where the file is not there or damaged."""
        found = files.read_sealed(self.path)
        if found is None:
            raise UserError(f"{self.path} is missing or damaged; run the stage segment again")
        return found

    @property
    def kept(self) -> Path:
        """Where its trained segmenter is kept, if it is."""
        return self.path.parent / "segmenter"

    @property
    def pictures(self) -> Path:
        """Where pictures of its samples lie, if several raters drew masks."""
        return self.path.parent / "samples"

    @property
    def heatmaps(self) -> Path:
        """Where pictures of where it looks lie, if segment.heatmap_images asks for some."""
        return self.path.parent / "heatmaps"

    @property
    def is_finished(self) -> bool:
        """Nothing is left to do, on whatever process."""
        return files.read_sealed(self.path) is not None and (self.keep != "all" or saved_model.is_kept(self.kept))


def plan(params: Params, segmenter: str) -> list[Cell]:
    """All cells in the order of params.yaml, seed by seed. Raises UserError where an input or parameter is wrong."""
    real = ImageSet.open(paths.real(params.study))
    about = dict(build_segmenter(params, segmenter, real.spec).about)
    chosen = params.segment_for(segmenter)
    if empty := [name for name in SCORED if not len(real.split(name))]:
        raise UserError(f"{real.folder} holds no image of the split {empty[0]}; run the stage prepare again")
    chosen.check_unseen([row["source"] for row in real.split("test")])
    rater_scoring.check(chosen, real.spec)
    scored = [_scored(real.split(name), chosen) for name in SCORED]
    shared = (settings(params, segmenter), scoring(params, segmenter), about, scored)
    cells = []
    for seed in params.segment.seeds:
        for name, arm in params.training_sets.items():
            train, stream = _open(params, name, real), f"segment/{seed + arm.seed_offset}"
            share = () if arm.synthetic_share is None else (arm.synthetic_share,)
            identity = files.fingerprint(*shared, content(train), stream, *share)
            cells.append(Cell(name, seed, stream, train, identity, arm.synthetic_share, chosen.keep))
    return cells


def content(images: ImageSet, further: tuple[str, ...] = ()) -> str:
    """Identifies the pixels of a set and their order, whatever its name."""
    columns = ("sha256", "mask_sha256", *further)
    raters = [[row.get("raters_sha256") for row in images]] if images.spec.raters > 1 else []
    return files.fingerprint(images.spec, [[row[column] for column in columns] for row in images], *raters)


def _scored(images: ImageSet, chosen: Segment) -> str:
    """Identifies a set that is scored."""
    return content(images, ("id", "source", *(images.native_columns if chosen.resolution == "native" else ())))


def run_grid(params: Params, segmenter: str, runtime: Runtime) -> None:
    """Runs the cells that are not finished yet; the main process then publishes the tables of all of them."""
    cells = plan(params, segmenter)
    distinct = list({cell.fingerprint: cell for cell in cells}.values())
    claimed = claims(distinct, counter(runtime, f"segment/{segmenter}"))
    alone = Runtime.alone(threads(params), runtime.device)

    def finish(cell: Cell) -> None:
        if not cell.is_finished:
            files.write_sealed(cell.path, run_cell(params, segmenter, cell, alone))

    if not runtime.is_main:
        for cell in claimed:
            finish(cell)
        return
    done = finished(distinct, claimed, finish)
    for _ in track(done, f"segment {segmenter}", total=len(distinct)):
        pass
    kept = chosen_cells(cells)
    for cell in [
        cell for cell in kept if not saved_model.is_kept(cell.kept)
    ]:  # finished before segment.keep asked for it
        run_cell(params, segmenter, cell, alone)
    publish(params, segmenter, cells, kept)
    drop_others(cells, kept)


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
        ready = [cell for cell in waiting if cell.is_finished]
        yield from ready
        waiting = [cell for cell in waiting if cell not in ready]
        if own is None and waiting:
            time.sleep(POLL)


def run_cell(params: Params, segmenter: str, cell: Cell, runtime: Runtime) -> dict[str, Any]:
    """Trains one segmenter, keeps it if asked to, and scores it on validation and test images."""
    real = ImageSet.open(paths.real(params.study))
    chosen = params.segment_for(segmenter)
    seen = Convergence(real.split("val"), chosen)
    course = Course(synthetic_share=cell.synthetic_share, convergence=seen)
    trained, losses = train_segmenter(params, segmenter, cell.train, cell.stream, runtime, course)
    if cell.keep != "none":
        saved_model.keep(trained, cell.train.spec, cell.kept, saved_model.reading_of(params.data))
    sample_pictures.write_pictures(trained, real.split("test"), chosen, cell.pictures)
    heatmaps.write_heatmaps(trained, real.split("test"), chosen, cell.heatmaps)
    followed = trajectories.dice_over_steps(trained, real.split("test"), chosen)
    return {
        "weights": trained.about["weights"],
        "steps": len(losses),
        "scores": [row for name in SCORED for row in score_set(trained, real.split(name), chosen)],
        "losses": losses,
        **({"trajectory": followed} if followed else {}),
        **({"convergence": seen.rows} if seen.rows else {}),
    }


def chosen_cells(cells: list[Cell]) -> list[Cell]:
    """The finished cells whose trained segmenters are to be published; the best seed is chosen on validation."""
    if cells[0].keep != "best_seed":
        return cells if cells[0].keep == "all" else []
    scores = {(cell.training_set, cell.seed): cell.result["scores"] for cell in cells}
    best = saved_model.best_seeds(scores)
    return [cell for cell in cells if (cell.training_set, cell.seed) in best]


def drop_others(cells: list[Cell], kept: list[Cell]) -> None:
    """Removes the trained segmenters of seeds that are not the best."""
    if cells[0].keep == "best_seed":
        for path in {cell.kept for cell in cells} - {cell.kept for cell in kept}:
            shutil.rmtree(path, ignore_errors=True)


def publish(params: Params, segmenter: str, cells: list[Cell], kept: list[Cell]) -> None:
    """Gathers finished cells into tables, cells.json, the protocol's summary, and kept/<training set>/seed_<seed>."""
    scores: list[Row] = []
    losses: list[Row] = []
    records: list[Row] = []
    followed: list[Row] = []
    converged: list[Row] = []
    for cell in cells:
        result = cell.result
        name = {"segmenter": segmenter, "training_set": cell.training_set, "seed": cell.seed}
        scores += [name | row for row in result["scores"]]
        losses += [name | {"step": step} | row for step, row in enumerate(result["losses"])]
        followed += [name | row for row in result.get("trajectory", ())]
        converged += [name | row for row in result.get("convergence", ())]
        records.append(name | _record(cell) | {key: result[key] for key in ("steps", "weights")})
    chosen = params.segment_for(segmenter)
    work = paths.work("segment", files.fingerprint(segmenter, chosen, [cell.fingerprint for cell in cells], records))
    further = [name for name in protocol.FURTHER if name in scores[0]]
    classes = sorted({column for row in scores for column in row} - {*COLUMNS, *further})
    lines = protocol.summary(scores, chosen)
    tables.write_table(work / "scores.csv", scores, [*COLUMNS, *further, *classes])
    tables.write_table(work / "losses.csv", losses)
    tables.write_table(work / "protocol.csv", lines, protocol.columns(lines))
    files.write_json(work / "protocol.json", protocol.report(lines, chosen, cells[0].train.spec.ndim == 3))
    files.write_json(work / "cells.json", records)
    if followed:
        tables.write_table(work / "steps.csv", followed, trajectories.COLUMNS)
    if converged:
        tables.write_table(work / "convergence.csv", converged, convergence.COLUMNS)
    for cell in [cell for cell in cells if cell.seed == cells[0].seed]:
        for folder in [folder for folder in (cell.pictures, cell.heatmaps) if folder.is_dir()]:
            shutil.copytree(folder, work / folder.name / cell.training_set, dirs_exist_ok=True)
    for cell in kept:
        saved_model.copy_kept(cell.kept, work / "kept" / cell.training_set / f"seed_{cell.seed}")
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
