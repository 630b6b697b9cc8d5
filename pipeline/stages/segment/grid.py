"""The grid training sets x seeds of one segmenter, shared out to all processes; a finished cell is never run twice.

A cell is identified by what it computes (segmenter, settings, content of its images, random stream), so that arms share
equal cells and the same command resumes. Processes meet only at a counter and at the cells' files: no process waits for
another in a collective that could time out. On several machines the folder `work` must be shared.
"""

import shutil
import time
from collections.abc import Callable, Iterator

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.core.runtime import Counter, Runtime, counter
from pipeline.data.image_set import ImageSet
from pipeline.segmentation import rater_scoring, saved_model
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.params import Segment
from pipeline.segmentation.train import training_identity
from pipeline.stages.segment.arm_options import check_options, options_identity, training_options
from pipeline.stages.segment.cells import SCORED, Cell, SegmenterSetup, run_cell
from pipeline.stages.segment.output import publish
from pipeline.study import Params
from pipeline.training.checkpoints import remove_checkpoints

POLL = 0.2  # seconds between checks of the cells of other processes


def plan(setup: SegmenterSetup) -> list[Cell]:
    """Return all cells in the order of params.yaml, seed by seed.

    Raises UserError where an input or a parameter is wrong.
    """
    real, segment = ImageSet.open(paths.real(setup.study)), setup.segment
    segmenter = build_segmenter(setup.name, setup.entry, real.spec)
    if empty := [name for name in SCORED if not len(real.split(name))]:
        raise UserError(f"{real.folder} holds no image of the split {empty[0]}; run the stage prepare again")
    segment.check_unseen([row["source"] for row in real.split("test")])
    rater_scoring.check_level_sets(segment, real.spec)
    scored = [_scored_content(real.split(name), segment) for name in SCORED]
    shared = (training_identity(segment, setup.threads), segment.scoring_settings(), dict(segmenter.about), scored)
    cells = []
    for seed in segment.seeds:
        for name, arm in setup.training_sets.items():
            train, stream = _open_training_set(setup.study, name, real), f"segment/{seed + arm.seed_offset}"
            options = training_options(setup.study, name, arm, segment, len(train))
            check_options(options, segment, segmenter, train)
            identity = files.fingerprint(*shared, content(train), stream, *options_identity(arm, segment, options))
            cells.append(Cell(name, seed, stream, train, identity, options, segment.keep))
    return cells


def content(images: ImageSet, extra_columns: tuple[str, ...] = ()) -> str:
    """Return a fingerprint of the pixels of a set and their order, whatever its name."""
    columns = ("sha256", "mask_sha256", *extra_columns)
    raters = [[row.get("raters_sha256") for row in images]] if images.spec.raters > 1 else []
    return files.fingerprint(images.spec, [[row[column] for column in columns] for row in images], *raters)


def _scored_content(images: ImageSet, segment: Segment) -> str:
    """Return a fingerprint of a set that is scored."""
    return content(images, ("id", "source", *(images.native_columns if segment.resolution == "native" else ())))


def run_grid(params: Params, segmenter: str, runtime: Runtime) -> None:
    """Run the cells that are not finished yet; the main process then publishes the tables of all of them."""
    setup = SegmenterSetup.of(params, segmenter)
    cells = plan(setup)
    run_cells(setup, cells, f"segment {segmenter}", runtime)
    if not runtime.is_main:
        return
    kept = cells_to_keep(cells)
    for cell in kept:
        if not saved_model.is_saved(cell.model):  # finished before segment.keep asked for it
            run_cell(setup, cell, Runtime.alone(setup.threads, runtime.device))
            remove_checkpoints(cell.path.parent)
    publish(setup, cells, kept)
    remove_other_models(cells, kept)


def run_cells(setup: SegmenterSetup, cells: list[Cell], task: str, runtime: Runtime) -> None:
    """Run the cells that are not finished yet, shared out to all processes of the launch.

    The main process returns once all cells are finished, another one once no cell is left to take. `task` names the
    progress bar and the counter that the processes share.
    """
    distinct = list({cell.fingerprint: cell for cell in cells}.values())
    claimed = claims(distinct, counter(runtime, task))
    alone = Runtime.alone(setup.threads, runtime.device)

    def finish(cell: Cell) -> None:
        if not cell.is_finished:
            files.write_sealed(cell.path, run_cell(setup, cell, alone))
            remove_checkpoints(cell.path.parent)

    if not runtime.is_main:
        for cell in claimed:
            finish(cell)
        return
    for _ in track(finished(distinct, claimed, finish), task, total=len(distinct)):
        pass


def claims(cells: list[Cell], numbers: Counter) -> Iterator[Cell]:
    """Yield the cells that this process is to run: each the next one that no process has taken."""
    while (number := numbers.next()) < len(cells):
        yield cells[number]


def finished(cells: list[Cell], claimed: Iterator[Cell], finish: Callable[[Cell], None]) -> Iterator[Cell]:
    """Work on claimed cells, then wait for those of other processes; yield every cell once it is finished."""
    waiting = cells
    while waiting:
        cell = next(claimed, None)
        if cell is not None:
            finish(cell)
        ready = [other for other in waiting if other.is_finished]
        yield from ready
        waiting = [other for other in waiting if other not in ready]
        if cell is None and waiting:
            time.sleep(POLL)


def cells_to_keep(cells: list[Cell]) -> list[Cell]:
    """Return the finished cells whose models are to be published; the best seed is selected on validation images."""
    if cells[0].keep != "best_seed":
        return cells if cells[0].keep == "all" else []
    scores = {(cell.training_set, cell.seed): cell.result["scores"] for cell in cells}
    best = saved_model.best_seeds(scores)
    return [cell for cell in cells if (cell.training_set, cell.seed) in best]


def remove_other_models(cells: list[Cell], kept: list[Cell]) -> None:
    """Remove the models of seeds that are not the best."""
    if cells[0].keep == "best_seed":
        for path in {cell.model for cell in cells} - {cell.model for cell in kept}:
            shutil.rmtree(path, ignore_errors=True)


def _open_training_set(study: str, name: str, real: ImageSet) -> ImageSet:
    train = ImageSet.open(paths.training_set(study, name))
    if train.spec != real.spec:
        raise UserError(f"{train.folder} holds {train.spec}, {real.folder} {real.spec}; run the stage mix again")
    return train
