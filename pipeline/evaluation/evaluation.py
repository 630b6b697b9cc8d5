"""Scores of synthetic image sets and one row per image, written for people, DVC and the report."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from pipeline.core import files, paths, plugins, seeding, tables
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data.image_set import ImageSet
from pipeline.evaluation.feature_cache import View
from pipeline.metrics.images.neighbours import nearest
from pipeline.metrics.images.projection import plane
from pipeline.metrics.images.score import Score, nested

MAPPED = 250  # points of one sort in the map


def score_set(real: ImageSet, synthetic: ImageSet, view: View) -> list[Score]:
    """All scores of one synthetic set, in the order of `score.metrics`."""
    _check(real, synthetic)
    metrics = track(_metrics(view), "score", visible=view.runtime.is_main)
    return [score for metric in metrics for score in metric.score(real, synthetic, view)]


def image_rows(real: ImageSet, synthetic: ImageSet, view: View) -> list[dict[str, Any]]:
    """One row per synthetic image: id, source_id, copy, the metrics' own columns, and the nearest training image.

    Nearest by cosine distance of the first usable extractor's features: small distances to images of other masks hint
    at copies.
    """
    columns: dict[str, list[Any]] = {key: [row[key] for row in synthetic] for key in ("id", "source_id", "copy")}
    for metric in _metrics(view):
        own: Callable[..., dict[str, list[Any]]] | None = getattr(metric, "per_image", None)
        columns |= own(real, synthetic, view) if own else {}
    extractor = first_extractor(view)
    if extractor:
        train = real.split("train")
        index, distance = nearest(view.features(synthetic, extractor), view.features(train, extractor))
        columns["nearest"] = [train.rows[k]["id"] for k in index]
        columns["nearest_distance"] = [round(float(value), 6) for value in distance]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def first_extractor(view: View) -> str | None:
    """The first of `score.extractors` that gives feature rows and whose weights are there."""
    return next((name for name in view.extractors("rows") if not view.missing(name)), None)


def map_rows(real: ImageSet, synthetic: ImageSet, view: View) -> list[dict[str, Any]]:
    """Training, test and synthetic images (first copies, at most MAPPED each) as points of one t-SNE plane."""
    extractor = first_extractor(view)
    sets = {"train": real.split("train"), "test": real.split("test"), "synthetic": synthetic}
    kept = {kind: [k for k, row in enumerate(images) if row["copy"] == 0][:MAPPED] for kind, images in sets.items()}
    if extractor is None or sum(map(len, kept.values())) < 5:
        return []
    rows = np.concatenate([view.features(images, extractor)[kept[kind]] for kind, images in sets.items()])
    points = plane(rows, seeding.number(view.seed, "map"))
    names = [(kind, images.rows[k]["id"]) for kind, images in sets.items() for k in kept[kind]]
    return [
        {"kind": kind, "id": name, "x": round(float(x), 4), "y": round(float(y), 4)}
        for (kind, name), (x, y) in zip(names, points, strict=True)
    ]


def publish_scores(
    folder: Path, scores: list[Score], images: list[dict[str, Any]], points: list[dict[str, Any]]
) -> None:
    """Publishes images.csv, map.csv, scores.json (all about each score) and metrics.json (the values alone)."""
    records = [score.record() for score in scores]
    work = paths.work("score", files.fingerprint(folder.name, records, images, points))
    tables.write_table(work / "images.csv", images)
    tables.write_table(work / "map.csv", points, ("kind", "id", "x", "y"))
    files.write_json(work / "scores.json", records)
    tables.write_metrics(work / "metrics.json", nested(scores))
    files.publish(work, folder)


def _metrics(view: View) -> list[ModuleType]:
    return [plugins.load("image_metrics", name) for name in view.settings.metrics]


def _check(real: ImageSet, synthetic: ImageSet) -> None:
    if synthetic.spec != real.spec:
        raise UserError(f"{synthetic.folder} holds {synthetic.spec}, {real.folder} {real.spec}; run generate again")
    for name, images in (("train", real.split("train")), ("test", real.split("test")), ("synthetic", synthetic)):
        if not len(images):
            raise UserError(f"there is no {name} image to score with; {images.folder} holds none")
