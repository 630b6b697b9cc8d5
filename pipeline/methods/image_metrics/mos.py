"""What clinicians say: mean opinion score (1 to 5), their agreement, and whether they tell real from synthetic.

From ratings/<study>/*.csv (data.ratings); without ratings every value is None. The arm is the generator entry's name.
The interval of the mean is for other raters and images. icc_2k: agreement on the images of this arm and the
real ones that every rater rated; its n is their number.
turing_accuracy: share of right answers to "is it real?"; 0.5 is guessing, so lower is better for a generator whose
images should pass for real. Its Wilson interval takes answers as independent, which those of one rater are not quite.
"""

from pipeline.core import paths, seeding
from pipeline.data.image_set import ImageSet
from pipeline.data.ratings import REAL, Rating, read_ratings, table
from pipeline.methods.image_metrics._view import View
from pipeline.metrics.images.score import Direction, Score
from pipeline.metrics.statistics import ratings as statistics

DIRECTIONS: dict[str, Direction] = {
    "mos": "higher",
    "mos_real": "higher",
    "icc_2k": "higher",
    "turing_accuracy": "lower",
}
UNANCHORED = "no real image was rated"


def score(real: ImageSet, synthetic: ImageSet, view: View) -> list[Score]:
    """mos (floor: mos_real), mos_real, icc_2k and turing_accuracy of one synthetic set. Raises UserError."""
    study = paths.study_of(synthetic.folder)
    ratings = read_ratings(paths.ratings(study)) if study else []
    if not ratings:
        where = f"in {paths.ratings(study).as_posix()}" if study else f"for {synthetic.folder.name}, which has no study"
        return [_absent(name, len(synthetic), view, f"there are no ratings {where}") for name in DIRECTIONS]
    arm = synthetic.folder.name
    own, of_real = ([rating for rating in ratings if rating.arm == name] for name in (arm, REAL))
    if not own:
        arms = ", ".join(sorted({rating.arm for rating in ratings}))
        return [_absent(name, len(synthetic), view, f"nobody rated {arm}; rated are: {arms}") for name in DIRECTIONS]
    return [
        _opinion("mos", own, view, statistics.mean(table(of_real)) if of_real else None),
        _opinion("mos_real", of_real, view) if of_real else _absent("mos_real", len(synthetic), view, UNANCHORED),
        _agreement([*own, *of_real], view),
        _told(own, of_real, view),
    ]


def _opinion(name: str, ratings: list[Rating], view: View, floor: float | None = None) -> Score:
    quality = table(ratings)
    rng = seeding.numpy_rng(view.seed, name, "bootstrap")
    low, high = statistics.mean_interval(quality, view.settings.resamples, rng)
    ends = max(low, 1.0), min(high, 5.0)  # of the scale
    return Score(name, statistics.mean(quality), len(quality), DIRECTIONS[name], view.seed, "", *ends, floor)


def _agreement(ratings: list[Rating], view: View) -> Score:
    whole = statistics.complete(table(ratings))
    n, raters = whole.shape
    if raters < 2 or n < 2:
        reason = f"{raters} raters and {n} images that all of them rated; agreement needs two of each"
        return _absent("icc_2k", max(n, 1), view, reason)
    try:
        found = statistics.icc_2_k(whole)
    except ValueError as error:
        return _absent("icc_2k", n, view, str(error))
    return Score("icc_2k", found.value, n, DIRECTIONS["icc_2k"], view.seed, "", found.low, found.high)


def _told(own: list[Rating], of_real: list[Rating], view: View) -> Score:
    n = len(own) + len(of_real)
    if not of_real:
        return _absent("turing_accuracy", n, view, UNANCHORED)
    right = sum(not rating.is_taken_for_real for rating in own) + sum(rating.is_taken_for_real for rating in of_real)
    ends = statistics.wilson(right, n)
    return Score("turing_accuracy", right / n, n, DIRECTIONS["turing_accuracy"], view.seed, "", *ends)


def _absent(name: str, n: int, view: View, reason: str) -> Score:
    return Score(name, None, n, DIRECTIONS[name], view.seed, reason=reason)
