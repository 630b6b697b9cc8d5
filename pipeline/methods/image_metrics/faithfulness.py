"""Mask faithfulness: does a synthetic image show what its mask asks for?

The judge, a segmenter that has seen real images only, predicts on every synthetic image; Dice with the mask that
conditioned the image. Also reported: the judge's Dice on real test images (what it can reach), and the control: the
same predictions with the masks of other images. Intervals: bootstrap over the sources of masks, as clusters of images.
"""

import numpy as np

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._partners import families
from pipeline.metrics.images.arrays import Array
from pipeline.metrics.images.score import Direction, ScoreResult
from pipeline.metrics.segmentation import overlap
from pipeline.metrics.statistics.resampling import bootstrap_means, derangement, percentile_interval

DIRECTION: Direction = "higher"


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return faithfulness, faithfulness_shuffled, judge_dice (real test images) and their ratio faithfulness_ratio."""
    test = real.split("test")
    faithful, reached = dice(synthetic, store), dice(test, store)
    faithful_draws = _draws(synthetic, faithful, store, "faithfulness")
    test_draws = _draws(test, reached, store, "judge")
    scores = [
        _score("faithfulness", faithful, faithful_draws, store),
        _shuffled(synthetic, store),
        _score("judge_dice", reached, test_draws, store),
    ]
    if reached.mean() == 0:
        reason = "the judge finds nothing on real test images"
        return [*scores, ScoreResult("faithfulness_ratio", None, len(faithful), DIRECTION, store.seed, reason=reason)]
    ratio, draws = faithful.mean() / reached.mean(), faithful_draws / np.maximum(test_draws, 1e-9)
    return [
        *scores,
        ScoreResult(
            "faithfulness_ratio", float(ratio), len(faithful), DIRECTION, store.seed, "", *percentile_interval(draws)
        ),
    ]


def per_image(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> dict[str, list[float]]:
    """Return the column `dice` of images.csv, in the order of the synthetic rows."""
    return {"dice": [round(float(value), 6) for value in dice(synthetic, store)]}


def dice(images: ImageSet, store: FeatureStore, masks_of: dict[str, int] | None = None) -> Array:
    """Return mean foreground Dice [N] of the judge's predictions and the masks of the images or of rows `masks_of`."""
    predictions, classes = store.predictions(images), images.spec.num_classes
    masks = (images.mask(row if masks_of is None else images.rows[masks_of[row["id"]]]) for row in images)
    return np.array(
        [
            overlap.dice(overlap.foreground_masks(predicted, classes), overlap.foreground_masks(mask, classes)).mean()
            for predicted, mask in zip(predictions, masks, strict=True)
        ]
    )


def mismatched_masks(images: ImageSet, rng: np.random.Generator) -> dict[str, int]:
    """Return for each image id the index of a row whose mask has another source, by a random cycle of sources."""
    clusters = families(images)
    first: dict[str, int] = {}
    for index, source in enumerate(clusters):
        first.setdefault(source, index)
    sources = sorted(first)
    other = dict(zip(sources, (sources[k] for k in derangement(len(sources), rng)), strict=True))
    return {row["id"]: first[other[source]] for row, source in zip(images, clusters, strict=True)}


def _shuffled(synthetic: ImageSet, store: FeatureStore) -> ScoreResult:
    name = "faithfulness_shuffled"
    if len(set(families(synthetic))) < 2:
        return ScoreResult(
            name, None, len(synthetic), DIRECTION, store.seed, reason="one mask only: no other to shuffle with"
        )
    values = dice(synthetic, store, mismatched_masks(synthetic, seeding.numpy_rng(store.seed, name)))
    return _score(name, values, _draws(synthetic, values, store, name), store)


def _draws(images: ImageSet, values: Array, store: FeatureStore, name: str) -> Array:
    rng = seeding.numpy_rng(store.seed, name, "bootstrap")
    return bootstrap_means(values, families(images), store.settings.resamples, rng)


def _score(name: str, values: Array, draws: Array, store: FeatureStore) -> ScoreResult:
    return ScoreResult(name, float(values.mean()), len(values), DIRECTION, store.seed, "", *percentile_interval(draws))
