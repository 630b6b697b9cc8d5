"""Scores of a synthetic image set as a whole and of every image in it, by the metrics of section `score`."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data.image_set import ImageSet
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.metrics.images.neighbours import nearest
from pipeline.metrics.images.score import ScoreResult


def score_set(real: ImageSet, synthetic: ImageSet, cache: FeatureCache) -> list[ScoreResult]:
    """Return all scores of one synthetic set, in the order of `score.metrics`."""
    _check_sets(real, synthetic)
    metrics = track(_metrics(cache), "score", visible=cache.runtime.is_main)
    return [score for metric in metrics for score in metric.score(real, synthetic, cache)]


def image_rows(real: ImageSet, synthetic: ImageSet, cache: FeatureCache) -> list[dict[str, Any]]:
    """Return one row per synthetic image: id, source_id, copy, the metrics' columns, and the nearest training image.

    Nearest by cosine distance of the first usable extractor's features: small distances to images of other masks hint
    at copies.
    """
    columns: dict[str, list[Any]] = {key: [row[key] for row in synthetic] for key in ("id", "source_id", "copy")}
    for metric in _metrics(cache):
        per_image: Callable[..., dict[str, list[Any]]] | None = getattr(metric, "per_image", None)
        columns |= per_image(real, synthetic, cache) if per_image else {}
    extractor = first_extractor(cache)
    if extractor:
        train = real.split("train")
        index, distance = nearest(cache.features(synthetic, extractor), cache.features(train, extractor))
        columns["nearest"] = [train.rows[k]["id"] for k in index]
        columns["nearest_distance"] = [round(float(value), 6) for value in distance]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def first_extractor(cache: FeatureCache) -> str | None:
    """Return the first of `score.extractors` that computes feature rows and whose weights are available."""
    return next((name for name in cache.extractors("rows") if not cache.missing(name)), None)


def _metrics(cache: FeatureCache) -> list[ModuleType]:
    return [plugins.load("image_metrics", name) for name in cache.settings.metrics]


def _check_sets(real: ImageSet, synthetic: ImageSet) -> None:
    if synthetic.spec != real.spec:
        raise UserError(
            f"{synthetic.folder} holds {synthetic.spec}, but {real.folder} holds {real.spec}; run generate again"
        )
    for name, images in (("train", real.split("train")), ("test", real.split("test")), ("synthetic", synthetic)):
        if not len(images):
            raise UserError(f"{images.folder} holds no {name} image to score with")
