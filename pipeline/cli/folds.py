"""Pools the studies of a cross-validation: every image is tested once, by models that were trained without it.

python -m pipeline.cli.folds small_f0 small_f1 small_f2, in the folder of params.yaml, whose training_sets and
compare hold for all. The pooled comparison goes to outputs/<study>_folds/comparison, the verdict to the screen.
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from pipeline.core.errors import UserError
from pipeline.stages.compare.comparison import compare, publish_comparison
from pipeline.stages.compare.results import METRICS, Results, read_results
from pipeline.study import Params, load_params


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the pooled comparison and its verdict; exits with one line and status 2 where a fold is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("studies", nargs="+", help="the study of every fold")
    studies = parser.parse_args(argv).studies
    try:
        params = load_params()
        if params.data.folds is not None and len(studies) != params.data.folds:
            raise UserError(f"data.folds is {params.data.folds}, but {len(studies)} studies are named")
        comparison = compare(params, partial(read_folds, studies=studies))
        publish_comparison(params.model_copy(update={"study": f"{params.study}_folds"}), comparison)
        sys.stdout.write(comparison["verdict"] + "\n")
    except UserError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(2) from None


def read_folds(
    params: Params,
    segmenter: str,
    arms: Sequence[str] | None = None,
    metrics: Sequence[str] = METRICS,
    *,
    studies: Sequence[str],
) -> Results:
    """The results of all folds as one. Raises UserError where an image is tested in two of them."""
    each = [params.model_copy(update={"study": study}) for study in studies]
    return pooled([read_results(fold, segmenter, arms, metrics) for fold in each], studies)


def pooled(folds: Sequence[Results], studies: Sequence[str]) -> Results:
    """Tables side by side. An image that validates in several folds is one unit of the validation images."""
    seen: dict[tuple[str, str], str] = {}
    for fold, study in zip(folds, studies, strict=True):
        for image in fold.images["test"]:
            if image in seen:
                raise UserError(
                    f"image {image[1]!r} is tested in {seen[image]} and in {study}; are both the same fold?"
                )
            seen[image] = study
    tables = {key: np.concatenate([fold.tables[key] for fold in folds], axis=1) for key in folds[0].tables}
    images = {split: tuple(image for fold in folds for image in fold.images[split]) for split in folds[0].images}
    clusters = {"val": tuple(unit for fold in folds for unit in _units(fold, "val"))}
    if any(fold.clusters for fold in folds):
        clusters["test"] = tuple(unit for fold in folds for unit in _units(fold, "test"))
    return Results(tables, folds[0].seeds, images, clusters)


def _units(fold: Results, split: str) -> tuple[str, ...]:
    return fold.clusters.get(split) or tuple(name for _, name in fold.images[split])


if __name__ == "__main__":
    main()
