"""Quality over training: the kept snapshots of one generator, each sampled once per mask and scored like the final set.

All sets are looked at by one view in one call, so that the real images are seen once.
"""

from pathlib import Path
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.evaluation import evaluation
from pipeline.evaluation.feature_cache import View, open_view
from pipeline.metrics.images.score import Score
from pipeline.segmentation.train import load_judge
from pipeline.stages.generate import generate
from pipeline.study import Params

COLUMNS = ("step", "score", "value", "low", "high", "n")


def score_snapshots(params: Params, generator: str) -> None:
    """Publishes steps.csv: every score of every snapshot and, last, of the finished generator (first copies).

    Only the header where there is no snapshot: none was asked for, or the generator is not trained.
    """
    runtime = Runtime.start(params.threads)
    rows: list[dict[str, Any]] = []
    steps = [step for step in sorted(params.finetune.snapshots) if _folder(params, generator, step).is_dir()]
    if steps:
        real = ImageSet.open(paths.real(params.study))
        judge = load_judge(params.study, params, real.spec) if "faithfulness" in params.score.metrics else None
        view = open_view(params, judge, runtime)
        for step in steps:
            rows += _rows(step, real, _images(params, generator, step, real, runtime), view)
        final = ImageSet.open(paths.synthetic(params.study, generator)).take(1)
        rows += _rows(params.finetune.max_steps, real, final, view)
    if runtime.is_main:
        work = paths.work("snapshots", files.fingerprint(generator, rows))
        tables.write_table(work / "steps.csv", rows, COLUMNS)
        files.publish(work, paths.snapshots(params.study, generator))
    runtime.barrier()


def _images(params: Params, generator: str, step: int, real: ImageSet, runtime: Runtime) -> ImageSet:
    job = generate.Job(params, generator, _folder(params, generator, step), 1, real)
    work = paths.work("snapshot", job.fingerprint)
    generate.fill(job, runtime, work)
    return ImageSet.open(work / "set")


def _folder(params: Params, generator: str, step: int) -> Path:
    return paths.generator(params.study, generator) / "snapshots" / f"{step:06d}"


def _rows(step: int, real: ImageSet, images: ImageSet, view: View) -> list[dict[str, Any]]:
    return [_row(step, score) for score in evaluation.score_set(real, images, view)]


def _row(step: int, score: Score) -> dict[str, Any]:
    about = {"value": score.value, "low": score.low, "high": score.high, "n": score.n}
    return {"step": step, "score": ".".join(score.key), **about}
