"""Train the judge: the segmenter of real images only."""

import numpy as np

from pipeline.core import files, paths, tables
from pipeline.core.contracts import Segmenter
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.metrics.segmentation import overlap
from pipeline.segmentation.params import Segment, entry_settings
from pipeline.segmentation.predicting import predict_set
from pipeline.segmentation.scoring import score_set
from pipeline.segmentation.train import TrainingOptions, train_segmenter, training_identity
from pipeline.stages.judge.params import Judge
from pipeline.study import Params


def train_judge(params: Params, runtime: Runtime) -> None:
    """Train the judge on the real training images, score it on the real test images and publish it."""
    if not runtime.is_main:
        return
    real, name = ImageSet.open(paths.real(params.study)), params.judge.segmenter
    entry, stream = params.segmenters[name], f"judge/{params.seed}"
    segment = judge_settings(params.judge, entry_settings(params.segment, name, entry))
    threads = segment.threads_or(params.threads)
    alone = Runtime.alone(threads, runtime.device)
    segmenter, losses = train_segmenter(
        name, entry, segment, real.split("train"), stream, alone, TrainingOptions("judge")
    )
    at_training_size = segment.model_copy(update={"resolution": "training", "spacing": None})
    rows = score_set(segmenter, real.split("test"), at_training_size)
    identity = training_identity(segment, threads)
    folder = paths.work("judge", files.fingerprint(identity, real.digest, dict(segmenter.about), stream))
    segmenter.save(folder)
    tables.write_table(folder / "losses.csv", [{"step": step} | row for step, row in enumerate(losses)])
    tables.write_table(folder / "scores.csv", rows)
    tables.write_metrics(folder / "metrics.json", reference_scores(segmenter, real.split("test"), at_training_size))
    files.publish(folder, paths.judge(params.study))


def reference_scores(segmenter: Segmenter, images: ImageSet, segment: Segment) -> dict[str, float | int | None]:
    """Return what the judge can reach, by the rule of faithfulness: means over the classes in mask or prediction.

    `n` images count; `left_out` have no foreground in either. scores.csv keeps the rule of docs/protocol.md.
    """
    classes = images.spec.num_classes
    labels = [samples.mean(0).argmax(0) for samples in predict_set(segmenter, images, segment)]
    pairs = [(found, images.mask(row)) for found, row in zip(labels, images, strict=True)]
    values = {
        name: np.array([overlap.mean_over_occurring(score, found, mask, classes) for found, mask in pairs])
        for name, score in (("dice", overlap.dice), ("iou", overlap.iou))
    }
    counted = int((~np.isnan(values["dice"])).sum())
    means = {name: float(np.nanmean(column)) if counted else None for name, column in values.items()}
    return means | {"n": counted, "left_out": len(pairs) - counted}


def judge_settings(judge: Judge, segment: Segment) -> Segment:
    """Return the settings of the judge's training: `segment` with judge.max_steps, where it is given."""
    if judge.max_steps is None:
        return segment
    return segment.model_copy(update={"max_steps": judge.max_steps, "epochs": None})
