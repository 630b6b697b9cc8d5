"""One cell of the grid: a segmenter trained on one training set with one seed, and its scores."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.segmentation import saved_model
from pipeline.segmentation.convergence import Convergence
from pipeline.segmentation.params import Segment, SegmenterEntry, entry_settings
from pipeline.segmentation.scoring import score_set
from pipeline.segmentation.selecting import Looks
from pipeline.segmentation.train import TrainingOptions, train_segmenter
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.prepare.params import Data
from pipeline.stages.segment import heatmaps, sample_pictures, trajectories
from pipeline.study import Params

SCORED = ("val", "test")  # splits; both hold real images only


@dataclass(frozen=True)
class SegmenterSetup:
    """An entry of `segmenters`, and what all its cells share."""

    study: str
    name: str
    entry: SegmenterEntry
    segment: Segment  # with the overrides of the entry
    threads: int  # per process
    data: Data
    training_sets: Mapping[str, TrainingSet]

    @classmethod
    def of(cls, params: Params, name: str) -> Self:
        """Return the setup of one entry of a study."""
        entry = params.segmenters[name]
        segment = entry_settings(params.segment, name, entry)
        threads = segment.threads_or(params.threads)
        return cls(params.study, name, entry, segment, threads, params.data, params.training_sets)


@dataclass(frozen=True)
class CellRecord:
    """A line of cells.json."""

    segmenter: str
    training_set: str
    seed: int
    n_real: int
    n_synthetic: int
    fingerprint: str
    stream: str
    steps: int
    weights: dict[str, Any]  # where the initial weights came from
    device: str | None  # cpu or cuda; None, as torch: a cell finished before they were recorded
    torch: str | None  # version, without the build

    def record(self) -> dict[str, Any]:
        """Return the line as plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Cell:
    """One training set with one seed."""

    training_set: str
    seed: int  # as listed; arms are paired by it
    stream: str  # name of the random stream: the seed with the arm's offset
    train: ImageSet
    fingerprint: str
    options: TrainingOptions = TrainingOptions()  # noqa: RUF009  (frozen)
    keep: str = "none"  # segment.keep

    @property
    def path(self) -> Path:
        """The file of its scores and losses, written last."""
        return paths.work("segment", self.fingerprint) / "cell.json"

    @property
    def result(self) -> dict[str, Any]:
        """What `run_cell` returned. Raises UserError where the file is missing or damaged."""
        result = files.read_sealed(self.path)
        if result is None:
            raise UserError(f"{self.path} is missing or damaged; run the stage segment again")
        return result

    @property
    def model(self) -> Path:
        """The folder of its trained segmenter, if that is kept."""
        return self.path.parent / "segmenter"

    @property
    def pictures(self) -> Path:
        """The folder of pictures of its samples, if several raters drew masks."""
        return self.path.parent / "samples"

    @property
    def heatmaps(self) -> Path:
        """The folder of its heatmaps, if segment.heatmap_images asks for some."""
        return self.path.parent / "heatmaps"

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to do, on whatever process."""
        return files.read_sealed(self.path) is not None and (self.keep != "all" or saved_model.is_saved(self.model))

    def unit(self, segmenter: str) -> dict[str, Any]:
        """Return the columns that name the cell in every table."""
        return {"segmenter": segmenter, "training_set": self.training_set, "seed": self.seed}

    def record(self, segmenter: str, result: dict[str, Any]) -> CellRecord:
        """Return the line of cells.json; `result` is that of `run_cell`."""
        synthetic = sum(row["synthetic"] for row in self.train)
        return CellRecord(
            **self.unit(segmenter),
            n_real=len(self.train) - synthetic,
            n_synthetic=synthetic,
            fingerprint=self.fingerprint,
            stream=self.stream,
            steps=result["steps"],
            weights=result["weights"],
            device=result.get("device"),
            torch=result.get("torch"),
        )


def run_cell(setup: SegmenterSetup, cell: Cell, runtime: Runtime) -> dict[str, Any]:
    """Train one segmenter, save it if asked to, and score it on validation and test images.

    The kind of device and the version of torch are recorded, but are no part of the fingerprint: moving a half-finished
    grid to another machine must not silently train anew what hours have finished, and grids of one kind of machine
    compare well. What must not happen is a pair of two kinds; the stage compare refuses it (compare.machines).
    """
    real, segment = ImageSet.open(paths.real(setup.study)), setup.segment
    curve, looks = Convergence(real.split("val"), segment), Looks(real.split("val"))
    folder = cell.path.parent
    options = replace(cell.options, convergence=curve, looks=looks, folder=folder, identity=cell.fingerprint)
    trained, losses = train_segmenter(setup.name, setup.entry, segment, cell.train, cell.stream, runtime, options)
    if cell.keep != "none":
        saved_model.save_model(trained, cell.train.spec, cell.model, saved_model.reader_settings(setup.data))
    test = real.split("test")
    sample_pictures.write_pictures(trained, test, segment, cell.pictures)
    heatmaps.write_heatmaps(trained, test, segment, cell.heatmaps)
    trajectory = trajectories.dice_over_steps(trained, test, segment)
    return {
        "device": runtime.device.type,
        "torch": torch.__version__.split("+")[0],
        "weights": trained.about["weights"],
        "steps": len(losses),
        "scores": [row for name in SCORED for row in score_set(trained, real.split(name), segment)],
        "losses": losses,
        **({"trajectory": trajectory} if trajectory else {}),
        **({"convergence": curve.rows} if curve.rows else {}),
        **({"selection": looks.rows()} if looks.rows() else {}),
    }
