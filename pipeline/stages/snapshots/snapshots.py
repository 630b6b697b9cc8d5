"""Image quality over training: every snapshot of a generator, sampled once per mask and scored like the final set.

All sets share one feature cache, so that features of the real images are computed once.
"""

from typing import Any

from pipeline.core import paths
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.evaluation.feature_cache import FeatureCache, open_cache
from pipeline.evaluation.image_set_scores import score_set
from pipeline.metrics.images.score import ScoreResult
from pipeline.stages.generate import generate
from pipeline.stages.judge.judge import load_judges
from pipeline.stages.snapshots import output
from pipeline.study import Params


def score_snapshots(params: Params, generator: str) -> None:
    """Publish steps.csv: every score of every snapshot and, last, of the finished generator (first copies)."""
    runtime = Runtime.start(params.threads)
    rows: list[dict[str, Any]] = []
    real = ImageSet.open(paths.real(params.study))
    judges = None
    if "faithfulness" in params.score.metrics:
        judges = load_judges(params.judge, params.segmenters, params.study, real)
    cache = open_cache(params.score, params.seed, params.study, judges, runtime)
    for step in output.kept_steps(params.study, generator, params.finetune.snapshots):
        rows += _rows(step, real, _images(params, generator, step, real, runtime), cache)
    final = ImageSet.open(paths.synthetic(params.study, generator)).take(1)
    rows += _rows(params.finetune.max_steps, real, final, cache)
    if runtime.is_main:
        output.write(params.study, generator, rows)
    runtime.barrier()


def _images(params: Params, generator: str, step: int, real: ImageSet, runtime: Runtime) -> ImageSet:
    job = generate.Job(params, generator, output.folder(params.study, generator, step), 1, real)
    work = paths.work("snapshot", job.fingerprint)
    generate.fill(job, runtime, work)
    return ImageSet.open(work / "set")


def _rows(step: int, real: ImageSet, images: ImageSet, cache: FeatureCache) -> list[dict[str, Any]]:
    return [_row(step, score) for score in score_set(real, images, cache)]


def _row(step: int, score: ScoreResult) -> dict[str, Any]:
    interval = {"low": score.low, "high": score.high}
    return {"step": step, "score": ".".join(score.key), "value": score.value, **interval, "n": score.n}
