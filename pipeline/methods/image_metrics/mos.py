"""Ratings by clinicians: mean opinion score (1 to 5), agreement, and whether they distinguish real from synthetic.

From ratings/<study>/*.csv (data.ratings); without ratings every value is None. The arm is the generator entry's name.
The interval of the mean is for other raters and images, or other groups (patients, sequences) of images where they are
known. icc_2k: agreement on the images of this arm and the
real ones that every rater rated; its n is their number.
turing_accuracy: share of correct answers to "is it real?"; 0.5 is guessing, so lower is better for a generator whose
images should pass for real. Its Wilson interval assumes independent answers, which those of one rater, or to images of
one patient, are not quite.
"""

from dataclasses import replace

import numpy as np

from pipeline.core import paths, seeding
from pipeline.data.image_set import ImageSet
from pipeline.data.ratings import REAL, Rating, rating_table, read_ratings
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._groups import image_units
from pipeline.metrics.images.score import Direction, ScoreResult
from pipeline.metrics.statistics import ratings as statistics
from pipeline.metrics.statistics.grouped import Interval, Units, percentile
from pipeline.metrics.statistics.proportion import wilson_interval

DIRECTIONS: dict[str, Direction] = {
    "mos": "higher",
    "mos_real": "higher",
    "icc_2k": "higher",
    "turing_accuracy": "lower",
}
UNANCHORED = "no real image was rated"


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return mos (floor: mos_real), mos_real, icc_2k and turing_accuracy of one synthetic set. Raises UserError."""
    study = paths.study_of(synthetic.folder)
    ratings = read_ratings(paths.ratings(study)) if study else []
    if not ratings:
        where = f"in {paths.ratings(study).as_posix()}" if study else f"for {synthetic.folder.name}, which has no study"
        return [_absent(name, len(synthetic), store, f"there are no ratings {where}") for name in DIRECTIONS]
    arm = synthetic.folder.name
    of_arm, of_real = ([rating for rating in ratings if rating.arm == name] for name in (arm, REAL))
    if not of_arm:
        arms = ", ".join(sorted({rating.arm for rating in ratings}))
        return [_absent(name, len(synthetic), store, f"nobody rated {arm}; rated are: {arms}") for name in DIRECTIONS]
    floor = statistics.mean(rating_table(of_real)) if of_real else None
    return [
        replace(_opinion("mos", of_arm, image_units(synthetic, real), synthetic.ids, store), floor=floor),
        _opinion("mos_real", of_real, image_units(real, real), real.ids, store)
        if of_real
        else _absent("mos_real", len(synthetic), store, UNANCHORED),
        _agreement([*of_arm, *of_real], store),
        _turing_accuracy(of_arm, of_real, store),
    ]


def _opinion(name: str, ratings: list[Rating], units: Units, ids: list[str], store: FeatureStore) -> ScoreResult:
    """Return the mean of the ratings; `units` are those of the images `ids`, an image that is not there is its own."""
    quality, unit_of = rating_table(ratings), dict(zip(ids, units.names, strict=True))
    images = sorted({rating.image for rating in ratings})  # as the rows of the table
    score = ScoreResult(name, statistics.mean(quality), len(quality), DIRECTIONS[name], store.seed)
    rated = Units(tuple(unit_of.get(image, image) for image in images), units.are_groups)
    if rated.are_groups and len(rated) < 2:
        return score.within(percentile(np.empty(0), rated))
    rng = seeding.numpy_rng(store.seed, name, "bootstrap")
    groups = rated.names if rated.are_groups else None
    ends = statistics.mean_interval(quality, store.settings.resamples, rng, groups=groups)
    return score.within(Interval(*ends, rated.n_groups).clipped(1.0, 5.0))  # the ends of the scale


def _agreement(ratings: list[Rating], store: FeatureStore) -> ScoreResult:
    complete = statistics.complete(rating_table(ratings))
    n, raters = complete.shape
    if raters < 2 or n < 2:
        reason = f"{raters} raters and {n} images that all of them rated; agreement needs two of each"
        return _absent("icc_2k", max(n, 1), store, reason)
    try:
        icc = statistics.icc_2_k(complete)
    except ValueError as error:
        return _absent("icc_2k", n, store, str(error))
    return ScoreResult("icc_2k", icc.value, n, DIRECTIONS["icc_2k"], store.seed, "", icc.low, icc.high)


def _turing_accuracy(of_arm: list[Rating], of_real: list[Rating], store: FeatureStore) -> ScoreResult:
    n = len(of_arm) + len(of_real)
    if not of_real:
        return _absent("turing_accuracy", n, store, UNANCHORED)
    correct = sum(not rating.is_taken_for_real for rating in of_arm) + sum(
        rating.is_taken_for_real for rating in of_real
    )
    ends = wilson_interval(correct, n)
    return ScoreResult("turing_accuracy", correct / n, n, DIRECTIONS["turing_accuracy"], store.seed, "", *ends)


def _absent(name: str, n: int, store: FeatureStore, reason: str) -> ScoreResult:
    return ScoreResult(name, None, n, DIRECTIONS[name], store.seed, reason=reason)
