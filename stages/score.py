"""Score one synthetic image set against the real one: distances of features, and mask faithfulness."""

from pipeline.stages import command
from pipeline.study import Params


def stage(params: Params, generator: str) -> None:
    """Writes scores.json, images.csv, map.csv and metrics.json of one generator entry."""
    from pipeline.core import paths
    from pipeline.core.runtime import Runtime
    from pipeline.data.image_set import ImageSet
    from pipeline.data.verification import verify
    from pipeline.evaluation import evaluation, feature_cache
    from pipeline.segmentation.train import load_judge

    runtime = Runtime.start(params.threads)
    real = ImageSet.open(paths.real(params.study))
    synthetic = ImageSet.open(paths.synthetic(params.study, generator))
    for images in (real, synthetic):
        verify(images)
    judge = load_judge(params.study, params, real.spec) if "faithfulness" in params.score.metrics else None
    seen = feature_cache.open_view(params, judge, runtime)
    scores = evaluation.score_set(real, synthetic, seen)
    rows = evaluation.image_rows(real, synthetic, seen)
    points = evaluation.map_rows(real, synthetic, seen)
    if runtime.is_main:
        evaluation.publish_scores(paths.scores(params.study, generator), scores, rows, points)


if __name__ == "__main__":
    command.run(stage, __doc__, "generator")
