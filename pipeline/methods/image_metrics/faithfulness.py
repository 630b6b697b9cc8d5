"""Mask faithfulness: does a synthetic image show what its mask asks for?

The judge, a segmenter that has seen real images only, predicts on every synthetic image; Dice with the mask that
conditioned the image, over the classes in either of the two; an image without foreground in both has no Dice and is
counted apart (left_out). Also reported: the judge's Dice on real test images (what it can reach), and the control: the
same predictions with the masks of other images. Intervals: bootstrap over the groups (patients, sequences) of the real
images that the masks come from, where they are known, else over the sources of masks.

Of cross-fitted judges the one that has not seen the pair of the mask judges an image; where there is no such pair, all
do, and the mean of their Dice counts. Their predictions are not averaged: that would be a better segmenter than each of
them, and its Dice on real test images no reference for what one of them says.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._groups import image_units
from pipeline.methods.image_metrics._partners import families
from pipeline.metrics.images.arrays import Array
from pipeline.metrics.images.score import Direction, ScoreResult
from pipeline.metrics.segmentation import overlap
from pipeline.metrics.statistics.grouped import Units, percentile
from pipeline.metrics.statistics.resampling import bootstrap_means, derangement

DIRECTION: Direction = "higher"
EMPTY = "no image has foreground in its mask or in the judge's prediction"


@dataclass(frozen=True)
class _Sample:
    """Dice of a set, NaN where there is none, and the unit of every image; `name` seeds its bootstrap."""

    name: str
    values: Array
    units: Units

    @property
    def count(self) -> int:
        """Number of images that have a Dice."""
        return int((~np.isnan(self.values)).sum())

    @property
    def counted_units(self) -> Units:
        """Units of the images that have a Dice."""
        kept = zip(self.units.names, ~np.isnan(self.values), strict=True)
        return Units(tuple(name for name, is_kept in kept if is_kept), self.units.are_groups)

    def draws(self, store: FeatureStore) -> Array:
        """Return bootstrap means of the values that are there; there must be one."""
        rng = seeding.numpy_rng(store.seed, self.name, "bootstrap")
        values = self.values[~np.isnan(self.values)]
        return bootstrap_means(values, self.counted_units.names, store.settings.resamples, rng)


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return faithfulness, faithfulness_shuffled, judge_dice (real test images) and their ratio faithfulness_ratio."""
    test = real.split("test")
    faithful = _Sample("faithfulness", dice(synthetic, store), image_units(synthetic, real))
    reached = _Sample("judge", dice(test, store), image_units(test, real))
    return [
        _score("faithfulness", faithful, store),
        _shuffled(synthetic, real, store),
        _score("judge_dice", reached, store),
        _ratio(faithful, reached, store),
    ]


def per_image(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> dict[str, list[Any]]:
    """Return the column `dice` of images.csv, in the order of the synthetic rows; None where an image has none.

    Of cross-fitted judges also the column `judges`: the numbers of those that judged the image, joined by "+".
    """
    values, judges = dice(synthetic, store), store.cross_fitted_by(synthetic)
    columns: dict[str, list[Any]] = {"dice": [None if np.isnan(value) else round(float(value), 6) for value in values]}
    return columns if judges is None else columns | {"judges": ["+".join(map(str, numbers)) for numbers in judges]}


def dice(images: ImageSet, store: FeatureStore, masks_of: dict[str, int] | None = None) -> Array:
    """Return Dice [N] of the judge's predictions and the masks of the images or of rows `masks_of`.

    The mean over the foreground classes in the mask or the prediction; NaN where there is none in either. Where several
    judges judge an image, the mean of their Dice, without those that have none.
    """
    predictions, classes = store.predictions(images), images.spec.num_classes
    masks = (images.mask(row if masks_of is None else images.rows[masks_of[row["id"]]]) for row in images)
    pairs = zip(predictions, masks, strict=True)
    return np.array([overlap.mean_over_judges(overlap.dice, found, mask, classes) for found, mask in pairs])


def mismatched_masks(images: ImageSet, rng: np.random.Generator) -> dict[str, int]:
    """Return for each image id the index of a row whose mask has another source, by a random cycle of sources."""
    clusters = families(images)
    first: dict[str, int] = {}
    for index, source in enumerate(clusters):
        first.setdefault(source, index)
    sources = sorted(first)
    other = dict(zip(sources, (sources[k] for k in derangement(len(sources), rng)), strict=True))
    return {row["id"]: first[other[source]] for row, source in zip(images, clusters, strict=True)}


def _shuffled(synthetic: ImageSet, real: ImageSet, store: FeatureStore) -> ScoreResult:
    name = "faithfulness_shuffled"
    if len(set(families(synthetic))) < 2:
        return ScoreResult(
            name, None, len(synthetic), DIRECTION, store.seed, reason="one mask only: no other to shuffle with"
        )
    values = dice(synthetic, store, mismatched_masks(synthetic, seeding.numpy_rng(store.seed, name)))
    return _score(name, _Sample(name, values, image_units(synthetic, real)), store)


def _ratio(faithful: _Sample, reached: _Sample, store: FeatureStore) -> ScoreResult:
    name, n = "faithfulness_ratio", faithful.count
    if not n or not reached.count:
        return ScoreResult(name, None, len(faithful.values), DIRECTION, store.seed, reason=EMPTY)
    if np.nanmean(reached.values) == 0:
        reason = "the judge finds nothing on real test images"
        return ScoreResult(name, None, n, DIRECTION, store.seed, reason=reason)
    value = float(np.nanmean(faithful.values) / np.nanmean(reached.values))
    draws = faithful.draws(store) / np.maximum(reached.draws(store), 1e-9)
    score = ScoreResult(name, value, n, DIRECTION, store.seed, left_out=len(faithful.values) - n)
    return score.within(percentile(draws, faithful.counted_units, reached.counted_units))


def _score(name: str, sample: _Sample, store: FeatureStore) -> ScoreResult:
    n, images = sample.count, len(sample.values)
    if not n:
        return ScoreResult(name, None, images, DIRECTION, store.seed, reason=EMPTY, left_out=images)
    score = ScoreResult(name, float(np.nanmean(sample.values)), n, DIRECTION, store.seed, left_out=images - n)
    return score.within(percentile(sample.draws(store), sample.counted_units))
