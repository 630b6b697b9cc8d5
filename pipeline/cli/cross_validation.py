"""Pooling the studies of a cross-validation: every image is tested once, by models that were trained without it."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.stages.compare.comparison import compare, publish_comparison
from pipeline.stages.compare.results import METRICS, Results, read_results
from pipeline.study import Params


def pool_folds(params: Params, studies: Sequence[str], *, partial: bool = False) -> tuple[Path, str]:
    """Publish the comparison over all folds and return its folder, outputs/<study>_folds/comparison, and its verdict.

    `params` holds the training_sets and compare of all folds, whichever of them it is. With `partial`, fewer studies
    than data.folds may be named: settings that were chosen on one fold are then judged on the others. Raises UserError
    where a fold is missing.
    """
    folds = params.data.folds
    if folds is not None and len(studies) != folds and not (partial and len(studies) < folds):
        cure = "; --partial leaves folds out" if len(studies) < folds else ""
        raise UserError(f"data.folds is {folds}, but {len(studies)} studies are named{cure}")
    comparison = compare(params, functools.partial(read_folds, studies, params.segment.seeds))
    pooled = f"{params.study.removesuffix(f'_f{params.data.fold}')}_folds"
    publish_comparison(pooled, comparison)
    return paths.comparison(pooled), comparison.verdict


def read_folds(
    studies: Sequence[str],
    seeds: Sequence[int],
    segmenter: str,
    training_sets: Sequence[str],
    metrics: Sequence[str] = METRICS,
) -> Results:
    """Return the results of all folds as one. Raises UserError where an image is tested in two of them."""
    folds = [read_results(study, seeds, segmenter, training_sets, metrics) for study in studies]
    return concatenate(folds, studies)


def concatenate(folds: Sequence[Results], studies: Sequence[str]) -> Results:
    """Join the tables of all folds along their images.

    An image that validates in several folds is one unit of the validation images. Raises UserError where an image is
    tested twice.
    """
    tested_in: dict[tuple[str, str], str] = {}
    for fold, study in zip(folds, studies, strict=True):
        for image in fold.images["test"]:
            if image in tested_in:
                raise UserError(
                    f"image {image[1]!r} is tested in {tested_in[image]} and in {study}; are both the same fold?"
                )
            tested_in[image] = study
    tables = {key: np.concatenate([fold.tables[key] for fold in folds], axis=1) for key in folds[0].tables}
    images = {split: tuple(image for fold in folds for image in fold.images[split]) for split in folds[0].images}
    clusters = {"val": tuple(unit for fold in folds for unit in _units(fold, "val"))}
    if any(fold.clusters for fold in folds):
        clusters["test"] = tuple(unit for fold in folds for unit in _units(fold, "test"))
    areas = {split: tuple(area for fold in folds for area in fold.areas.get(split, ())) for split in images}
    return Results(tables, folds[0].seeds, images, clusters, areas=areas, folds=len(folds))


def _units(fold: Results, split: str) -> tuple[str, ...]:
    return fold.clusters.get(split) or tuple(name for _, name in fold.images[split])
