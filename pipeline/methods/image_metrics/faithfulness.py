"""Mask faithfulness: does a synthetic image show what its mask asks for?

The judge, a segmenter that has seen real images only, predicts on every synthetic image; Dice with the mask that
conditioned the image. Beside it the judge's Dice on real test images (what it could reach), and the control: the same
predictions with the masks of other images. Intervals: bootstrap over the sources of masks: their images go together.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._partners import families
from pipeline.methods.image_metrics._view import View
from pipeline.metrics.images.score import Direction, Score
from pipeline.metrics.segmentation import overlap
from pipeline.metrics.statistics.resampling import bootstrap_means, derangement, percentile_interval

DIRECTION: Direction = "higher"
Array = NDArray[np.float64]


def score(real: ImageSet, synthetic: ImageSet, view: View) -> list[Score]:
    """faithfulness, faithfulness_shuffled, judge_dice (real test images) and their ratio faithfulness_ratio."""
    test = real.split("test")
    own, reached = dice(synthetic, view), dice(test, view)
    own_draws = _draws(synthetic, own, view, "faithfulness")
    test_draws = _draws(test, reached, view, "judge")
    scores = [
        _score("faithfulness", own, own_draws, view),
        _shuffled(synthetic, view),
        _score("judge_dice", reached, test_draws, view),
    ]
    if reached.mean() == 0:
        reason = "the judge finds nothing on real test images"
        return [*scores, Score("faithfulness_ratio", None, len(own), DIRECTION, view.seed, reason=reason)]
    ratio, draws = own.mean() / reached.mean(), own_draws / np.maximum(test_draws, 1e-9)
    return [
        *scores,
        Score("faithfulness_ratio", float(ratio), len(own), DIRECTION, view.seed, "", *percentile_interval(draws)),
    ]


def per_image(real: ImageSet, synthetic: ImageSet, view: View) -> dict[str, list[float]]:
    """The column `dice` of images.csv, in the order of the synthetic rows."""
    return {"dice": [round(float(value), 6) for value in dice(synthetic, view)]}


def dice(images: ImageSet, view: View, masks_of: dict[str, int] | None = None) -> Array:
    """Mean foreground Dice [N] of the judge's predictions and each image's mask (or that of row `masks_of[id]`)."""
    predictions, classes = view.predictions(images), images.spec.num_classes
    masks = (images.mask(row if masks_of is None else images.rows[masks_of[row["id"]]]) for row in images)
    return np.array(
        [
            overlap.dice(overlap.foreground(found, classes), overlap.foreground(mask, classes)).mean()
            for found, mask in zip(predictions, masks, strict=True)
        ]
    )


def strangers(images: ImageSet, rng: np.random.Generator) -> dict[str, int]:
    """For each image's id the index of a row whose mask has another source: a random cycle through the sources."""
    own = families(images)
    first: dict[str, int] = {}
    for index, source in enumerate(own):
        first.setdefault(source, index)
    sources = sorted(first)
    other = dict(zip(sources, (sources[k] for k in derangement(len(sources), rng)), strict=True))
    return {row["id"]: first[other[source]] for row, source in zip(images, own, strict=True)}


def _shuffled(synthetic: ImageSet, view: View) -> Score:
    name = "faithfulness_shuffled"
    if len(set(families(synthetic))) < 2:
        return Score(name, None, len(synthetic), DIRECTION, view.seed, reason="one mask only: no other to shuffle with")
    values = dice(synthetic, view, strangers(synthetic, seeding.numpy_rng(view.seed, name)))
    return _score(name, values, _draws(synthetic, values, view, name), view)


def _draws(images: ImageSet, values: Array, view: View, name: str) -> Array:
    rng = seeding.numpy_rng(view.seed, name, "bootstrap")
    return bootstrap_means(values, families(images), view.settings.resamples, rng)


def _score(name: str, values: Array, draws: Array, view: View) -> Score:
    return Score(name, float(values.mean()), len(values), DIRECTION, view.seed, "", *percentile_interval(draws))
