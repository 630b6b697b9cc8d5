"""Train the judge: the segmenter of real images only, or two of them that are cross-fitted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files, paths, tables
from pipeline.core.contracts import Segmenter
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.metrics.segmentation import overlap
from pipeline.segmentation.build import build_segmenter
from pipeline.segmentation.class_scores import ScoreRow
from pipeline.segmentation.params import Segment, SegmenterEntry, entry_settings
from pipeline.segmentation.predicting import predict_set
from pipeline.segmentation.scoring import score_set
from pipeline.segmentation.selecting import Looks
from pipeline.segmentation.train import TrainingOptions, train_segmenter, training_identity
from pipeline.stages.judge import folds
from pipeline.stages.judge.params import FOLDS, Judge
from pipeline.study import Params

Losses = list[dict[str, float]]


@dataclass(frozen=True)
class JudgeSetup:
    """What the trainings of a study's judges share."""

    name: str  # of the entry of `segmenters`
    entry: SegmenterEntry
    segment: Segment  # with the overrides of the entry and judge.max_steps
    seed: int
    threads: int  # per process
    runtime: Runtime
    validation: ImageSet

    @property
    def stream(self) -> str:
        """Name of the random stream of the judge; those of folds have its name and their number."""
        return f"judge/{self.seed}"

    def folder(self, *inputs: Any) -> Path:
        """Return the folder of work of the judge that is trained on these inputs."""
        return paths.work("judge", files.fingerprint(training_identity(self.segment, self.threads), *inputs))

    def train(self, images: ImageSet, stream: str, title: str) -> tuple[Segmenter, Losses]:
        """Train a judge on all rows of `images`."""
        options = TrainingOptions(title, looks=Looks(self.validation))
        return train_segmenter(self.name, self.entry, self.segment, images, stream, self.runtime, options)


def train_judge(params: Params, runtime: Runtime) -> None:
    """Train the judge on the real training images, score it on the real test images and publish it.

    With judge.cross_fit these are two judges on half of the pairs each, in the folders fold_0 and fold_1 beside
    folds.csv; scores.csv and metrics.json hold the means of both. A judge that is finished is not trained again.
    """
    if not runtime.is_main:
        return
    real, name = ImageSet.open(paths.real(params.study)), params.judge.segmenter
    entry = params.segmenters[name]
    segment = judge_settings(params.judge, entry_settings(params.segment, name, entry))
    threads = segment.threads_or(params.threads)
    alone = Runtime.alone(threads, runtime.device)
    setup = JudgeSetup(name, entry, segment, params.seed, threads, alone, real.split("val"))
    folder, judges = (cross_fitted if params.judge.cross_fit else single)(setup, real)
    test, at_training_size = real.split("test"), segment.model_copy(update={"resolution": "training", "spacing": None})
    rows = mean_rows([score_set(judge, test, at_training_size) for judge in judges])
    tables.write_table(folder / "scores.csv", rows)
    tables.write_metrics(folder / "metrics.json", reference_scores(judges, test, at_training_size))
    files.publish(folder, paths.judge(params.study))


def single(setup: JudgeSetup, real: ImageSet) -> tuple[Path, list[Segmenter]]:
    """Train one judge on all training pairs; return the folder that holds it."""
    judge, losses = setup.train(real.split("train"), setup.stream, "judge")
    folder = setup.folder(real.digest, dict(judge.about), setup.stream)
    _save(judge, losses, folder)
    return folder, [judge]


def cross_fitted(setup: JudgeSetup, real: ImageSet) -> tuple[Path, list[Segmenter]]:
    """Train one judge for each fold of the training pairs, on the others; return the folder that holds them.

    Raises UserError where the pairs cannot be halved.
    """
    train = real.split("train")
    halves = folds.assign(train, setup.seed)
    about = dict(build_segmenter(setup.name, setup.entry, real.spec).about)
    folder = setup.folder(real.digest, about, setup.stream, "cross_fit", halves)
    folds.write(folder, halves)
    return folder, [_judge_of_fold(setup, train, halves, fold, folder) for fold in range(FOLDS)]


def _judge_of_fold(setup: JudgeSetup, train: ImageSet, halves: Mapping[str, int], fold: int, folder: Path) -> Segmenter:
    """Train the judge of a fold, or load it where an earlier run has finished it; its folder is sealed last."""
    place = folds.subfolder(folder, fold)
    if files.is_intact(place):
        judge = build_segmenter(setup.name, setup.entry, train.spec)
        judge.load(place)
        return judge
    title = f"judge {fold + 1} of {FOLDS}"
    judge, losses = setup.train(folds.others(train, halves, fold), f"{setup.stream}/fold/{fold}", title)
    _save(judge, losses, place)
    files.seal(place)
    return judge


def _save(judge: Segmenter, losses: Losses, folder: Path) -> None:
    judge.save(folder)
    tables.write_table(folder / "losses.csv", [{"step": step} | row for step, row in enumerate(losses)])


def mean_rows(tables_of_judges: Sequence[Sequence[ScoreRow]]) -> list[ScoreRow]:
    """Return the rows of score_set, which all judges have for the same images, with the mean of every score.

    A score that a judge does not have is None.
    """
    return [_mean_row(rows) for rows in zip(*tables_of_judges, strict=True)]


def _mean_row(rows: Sequence[ScoreRow]) -> ScoreRow:
    first = rows[0]
    if len(rows) == 1:
        return first
    return {key: value if isinstance(value, str) else _mean([row[key] for row in rows]) for key, value in first.items()}


def _mean(values: Sequence[Any]) -> float | None:
    return None if None in values else round(float(np.mean(values)), 6)


def reference_scores(judges: Sequence[Segmenter], images: ImageSet, segment: Segment) -> dict[str, Any]:
    """Return what the judges can reach, by the rule of faithfulness: means over the classes in mask or prediction.

    The scores of an image are the means over the judges. `n` images count; `left_out` have no foreground in either.
    Of two judges each one's own means follow under `fold_<number>`, so that one that has learnt nothing is seen, and
    `difference_sd`, the standard deviation over the images of the difference between their Dice: power is planned with
    it. scores.csv keeps the rule of docs/protocol.md.
    """
    found = [[samples.mean(0).argmax(0) for samples in predict_set(judge, images, segment)] for judge in judges]
    values = _values(found, images)
    counted = int((~np.isnan(values["dice"])).sum())
    means = _means(values) | {"n": counted, "left_out": len(images) - counted}
    if len(judges) == 1:
        return means
    own = [_values([one], images) for one in found]
    differences = own[0]["dice"] - own[1]["dice"]
    known = differences[~np.isnan(differences)]  # an image may have foreground for one judge alone
    spread = {"difference_sd": float(known.std(ddof=1)) if len(known) > 1 else None}
    return means | {f"fold_{fold}": _means(one) for fold, one in enumerate(own)} | spread


def _means(values: Mapping[str, NDArray[np.float64]]) -> dict[str, float | None]:
    return {name: None if np.isnan(column).all() else float(np.nanmean(column)) for name, column in values.items()}


def _values(found: Sequence[Sequence[NDArray[Any]]], images: ImageSet) -> dict[str, NDArray[np.float64]]:
    """Return the Dice and IoU of every image, means over the label maps that each judge found; NaN without any."""
    classes = images.spec.num_classes
    pairs = [(maps, images.mask(row)) for *maps, row in zip(*found, images, strict=True)]
    return {
        name: np.array([overlap.mean_over_judges(score, maps, mask, classes) for maps, mask in pairs])
        for name, score in (("dice", overlap.dice), ("iou", overlap.iou))
    }


def judge_settings(judge: Judge, segment: Segment) -> Segment:
    """Return the settings of the judge's training: `segment` with judge.max_steps, where it is given."""
    if judge.max_steps is None:
        return segment
    return segment.model_copy(update={"max_steps": judge.max_steps, "epochs": None})
