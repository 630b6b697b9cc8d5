"""Score one synthetic image set against the real one, and publish the scores for people, DVC and the report."""

import shutil
from pathlib import Path
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.verification import verify
from pipeline.evaluation.feature_cache import open_cache
from pipeline.evaluation.image_set_scores import image_rows, score_set
from pipeline.metrics.images.score import ScoreResult, nested
from pipeline.stages.judge.judge import load_judges
from pipeline.stages.score.feature_map import map_rows
from pipeline.stages.score.judge_maps import FOLDER, judge_pixels, write_empty
from pipeline.study import Params


def score(params: Params, generator: str) -> None:
    """Publish scores.json, images.csv, map.csv and metrics.json of one generator entry."""
    runtime = Runtime.start(params.threads)
    real = ImageSet.open(paths.real(params.study))
    synthetic = ImageSet.open(paths.synthetic(params.study, generator))
    for images in (real, synthetic):
        verify(images)
    judges, maps = None, None
    if "faithfulness" in params.score.metrics or params.score.judge_maps:
        judges = load_judges(params.judge, params.segmenters, params.study, real)
    cache = open_cache(params.score, params.seed, params.study, judges, runtime)
    scores = score_set(real, synthetic, cache)
    rows = image_rows(real, synthetic, cache)
    points = map_rows(real, synthetic, cache)
    if judges is not None and params.score.judge_maps:
        maps = judge_pixels(real, synthetic, params.study, judges, runtime)
    if runtime.is_main:
        publish_scores(paths.scores(params.study, generator), scores, rows, points, maps)


def publish_scores(
    folder: Path,
    scores: list[ScoreResult],
    images: list[dict[str, Any]],
    points: list[dict[str, Any]],
    maps: Path | None = None,
) -> None:
    """Publish images.csv, map.csv, scores.json (all about each score) and metrics.json (the values alone).

    The folder judge_maps holds what `judge_pixels` left in the folder `maps`, or tables without a row.
    """
    records = [score.record() for score in scores]
    inputs = [] if maps is None else [maps.name]
    work = paths.work("score", files.fingerprint(folder.name, records, images, points, *inputs))
    shutil.rmtree(work / FOLDER, ignore_errors=True)
    write_empty(work / FOLDER)
    if maps is not None:
        shutil.copytree(maps, work / FOLDER, ignore=shutil.ignore_patterns("training"), dirs_exist_ok=True)
    tables.write_table(work / "images.csv", images)
    tables.write_table(work / "map.csv", points, ("kind", "id", "x", "y"))
    files.write_json(work / "scores.json", records)
    tables.write_metrics(work / "metrics.json", nested(scores))
    files.publish(work, folder)
