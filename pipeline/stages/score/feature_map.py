"""The map of a study: images of the real and the synthetic set as points of one plane."""

from typing import Any

import numpy as np

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.evaluation.image_set_scores import first_extractor
from pipeline.metrics.images.projection import plane

POINTS = 250  # of one kind in the map


def map_rows(real: ImageSet, synthetic: ImageSet, cache: FeatureCache) -> list[dict[str, Any]]:
    """Return training, test and synthetic images (first copies, at most POINTS each) as points of one t-SNE plane."""
    extractor = first_extractor(cache)
    sets = {"train": real.split("train"), "test": real.split("test"), "synthetic": synthetic}
    first = {kind: [k for k, row in enumerate(images) if row["copy"] == 0][:POINTS] for kind, images in sets.items()}
    if extractor is None or sum(map(len, first.values())) < 5:
        return []
    features = np.concatenate([cache.features(images, extractor)[first[kind]] for kind, images in sets.items()])
    points = plane(features, seeding.number(cache.seed, "map"))
    names = [(kind, images.rows[k]["id"]) for kind, images in sets.items() for k in first[kind]]
    return [
        {"kind": kind, "id": name, "x": round(float(x), 4), "y": round(float(y), 4)}
        for (kind, name), (x, y) in zip(names, points, strict=True)
    ]
