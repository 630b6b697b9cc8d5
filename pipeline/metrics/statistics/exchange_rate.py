"""The annotation exchange rate: with how many real pairs alone would models score as with n real pairs and more?

A learning curve v(n) is measured with real pairs alone, an arm with n real pairs and synthetic images. Its equivalent
is N = v^-1(score of the arm), its exchange rate N / n. v is the monotone curve of `learning_curve`, which assumes no
shape: with a power law, the interval would miss the truth wherever the true curve is not one. Nothing is extrapolated:
an arm above or below all of the curve is "at least" the largest or "at most" the smallest size that was measured.

The interval is the percentile interval of a two-level bootstrap over the whole fit, inversion included. Its ends are
those of a test of v(N) = score of the arm, so they need no slope and no symmetry. Two things differ from a plain
bootstrap, which is too narrow with few seeds (docs/statistics.md has the simulations):

* Units (test images or patients) are drawn with replacement, the same ones for the curve and the arm. Models (seeds, or
  draws of the subset) are too few for that: 3 of them have only 10 different resamples. Their noise is drawn from a
  normal distribution with the standard error that each mean shows.
  The noise of model x unit is in both; it is taken out of the units, whose covariance is known best.
* Both parts are multiplied by sqrt(df / chi^2_df), one draw per resample, which gives them the tails of Student's t.
  The degrees of freedom of the models are Satterthwaite's for v(N) minus the arm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.statistics.learning_curve import Array, LearningCurve, fit_monotone, fit_power_law
from pipeline.metrics.statistics.paired import Table, cell_noise

FEWEST_SIZES = 4  # a power law has three parameters
FEWEST_DRAWS = 3  # of a subset, with which the interval covers another draw
CLEAR = 2.0  # standard errors by which a curve must rise, or may fall at most


@dataclass(frozen=True)
class Runs:
    """The test scores of all models of one training set, or of several that differ in the draw of the subset."""

    n: int  # real pairs
    scores: NDArray[np.float64]  # [draws, seeds, units]

    @property
    def models(self) -> int:
        """The number of trained models."""
        return self.scores.shape[0] * self.scores.shape[1]

    @property
    def replicates(self) -> Table:
        """What varies from training to training [replicates, units]: draws where they are several, else seeds.

        Two draws do not show how draws vary, so their mean counts as fixed. Their models of one seed are not two
        independent ones, because they share their initial weights.
        """
        return self.scores.mean(1) if len(self.scores) >= FEWEST_DRAWS else self.scores.mean(0)

    @property
    def squared_error(self) -> float:
        """The squared standard error of the mean score from training to training."""
        return float(self.replicates.mean(1).var(ddof=1) / len(self.replicates))

    @property
    def cell_noise(self) -> float:
        """The variance of a unit's mean over the replicates that is noise of model x unit (`paired.cell_noise`)."""
        return cell_noise(self.replicates) / len(self.replicates)


@dataclass(frozen=True)
class Interval:
    """A value with its interval; an end is infinite where it lies outside of what was measured."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ExchangeRate:
    """What n real pairs and synthetic images are worth in real pairs."""

    n: int
    score: Interval  # of the arm
    equivalent: Interval  # N; its value is infinite where the arm lies above or below the whole curve
    power_law: float  # N by the power law
    above: float  # share of the resamples in which the arm lies above the whole curve
    below: float
    refusal: str | None  # why no rate can be stated


@dataclass(frozen=True)
class Worth:
    """What the next labels and the next synthetic images add to the score."""

    labels: Interval
    images: Interval


@dataclass(frozen=True)
class Bootstrap:
    """How resamples are drawn and read."""

    resamples: int
    confidence: float
    rng: np.random.Generator

    def interval(self, value: float, draws: Array) -> Interval:
        """Return the percentile interval of draws, some of which may be infinite."""
        ends = [(1 - self.confidence) / 2, (1 + self.confidence) / 2]
        low, high = np.quantile(draws, ends, method="closest_observation")
        return Interval(value, float(low), float(high))


@dataclass(frozen=True)
class Resampled:
    """A learning curve and one arm with all their resamples; row 0 is the estimate itself."""

    sizes: Array
    weights: Array  # models of each size
    means: Array  # [1 + resamples, K] of the curve
    plain: Array  # the same with normal tails, whose standard deviations are standard errors
    arm: Array  # [1 + resamples]
    n: int
    curve: LearningCurve
    power_law: LearningCurve  # the estimate alone


def resample(curve: Sequence[Runs], arm: Runs, bootstrap: Bootstrap) -> Resampled:
    """Draw the means of a curve (its `Runs` by increasing n) and of an arm again, and fit all of them.

    Raises ValueError where the runs were not scored on the same units, or are fewer than two models each.
    """
    runs = [*curve, arm]
    _check_runs(runs)
    sizes = np.array([one.n for one in curve], float)
    weights = np.array([one.models for one in curve], float)
    means = np.array([one.scores.mean() for one in runs])
    errors = np.array([one.squared_error for one in runs])
    df = _degrees_of_freedom(sizes, weights, means, errors, [len(one.replicates) for one in runs])
    of_units, tails_of_units = _unit_noise(runs, bootstrap)
    of_models, tails_of_models = _model_noise(errors, df, bootstrap)
    plain, draws = (
        np.minimum(np.concatenate([means[None], means + noise]), 1.0)  # the scale of the scores ends there
        for noise in (of_units + of_models, of_units * tails_of_units + of_models * tails_of_models)
    )
    fitted = draws[:, :-1]
    return Resampled(
        sizes,
        weights,
        fitted,
        plain[:, :-1],
        draws[:, -1],
        arm.n,
        fit_monotone(sizes, fitted, weights),
        fit_power_law(sizes, fitted[:1], weights),
    )


def exchange_rate(drawn: Resampled, bootstrap: Bootstrap) -> ExchangeRate:
    """Return the equivalent of an arm with its interval, or why there is none to be stated."""
    sizes = drawn.curve.inverse(drawn.arm)
    power_law = float(drawn.power_law.inverse(drawn.arm[:1])[0])
    above, below = (float((sizes[1:] == end).mean()) for end in (np.inf, -np.inf))
    equivalent = bootstrap.interval(float(sizes[0]), sizes[1:])
    score = bootstrap.interval(float(drawn.arm[0]), drawn.arm[1:])
    refusal = _refusal(drawn)
    return ExchangeRate(drawn.n, score, equivalent, power_law, above, below, refusal)


def worth(drawn: Resampled, step: int, bootstrap: Bootstrap) -> Worth | None:
    """Return what the next `step` labels add, and what `step` times as many images as the arm has per pair add.

    The arm's gain over n real pairs alone is shared out evenly over its images. None where the curve was not measured
    at n + step, or the arm has fewer images than asked for.
    """
    n = drawn.n
    if n + step > drawn.sizes[-1] or n < drawn.sizes[0] or step > n:
        return None
    start = drawn.curve.at(n)
    labels, images = drawn.curve.at(n + step) - start, (drawn.arm - start) * step / n
    return Worth(*(bootstrap.interval(float(one[0]), one[1:]) for one in (labels, images)))


def _refusal(drawn: Resampled) -> str | None:
    """Return why no rate can be stated, as a sentence; None where it can."""
    falls = drawn.plain[:, :-1] - drawn.plain[:, 1:]
    places = np.flatnonzero(falls[0] > CLEAR * falls[1:].std(0))
    if len(places):
        first, second = drawn.sizes[places[0] : places[0] + 2]
        return f"The curve of real images falls from {first:.0f} to {second:.0f} pairs by more than its error allows."
    low, high = _around(drawn.n, drawn.sizes)
    curve = fit_monotone(drawn.sizes, drawn.plain, drawn.weights)
    rise = curve.at(high) - curve.at(low)
    if rise[0] < CLEAR * rise[1:].std():
        return (
            f"From {low:.0f} to {high:.0f} real pairs the curve rises by {100 * rise[0]:.1f} points, less than twice"
            " the standard error of that rise, so a difference in Dice cannot be expressed in pairs."
        )
    return None


def _around(n: float, sizes: Array) -> tuple[float, float]:
    """Return two sizes that were measured, or lie between such, of which one is twice the other: n to 2 n if it can."""
    low = min(max(n, sizes[0]), max(sizes[-1] / 2, sizes[0]))
    return low, min(2 * low, sizes[-1])


def _unit_noise(runs: Sequence[Runs], bootstrap: Bootstrap) -> tuple[Array, Array]:
    """Return the deviations [resamples, A] of the means when units are drawn again, the same ones for all runs.

    Also factors [resamples, 1] that give them the tails of Student's t.
    """
    table = _without_cell_noise(runs)
    units, count, rng = len(table), bootstrap.resamples, bootstrap.rng
    noise = np.empty((count, table.shape[1]))
    for part in np.array_split(np.arange(count), max(1, count * units // 2_000_000)):  # bounds the memory
        drawn = rng.integers(units, size=(len(part), units)) + units * np.arange(len(part))[:, None]
        times = np.bincount(drawn.ravel(), minlength=units * len(part)).reshape(len(part), units)
        noise[part] = times @ table / units
    return noise * np.sqrt(units / (units - 1)), _student(units - 1, bootstrap)


def _without_cell_noise(runs: Sequence[Runs]) -> Array:
    """Return the units' deviations [units, A], rotated and scaled so that their covariance lacks the noise of cells.

    Each mean over models holds the noise of model x unit, which the spread between models shows as well.
    """
    table = np.stack([one.scores.mean((0, 1)) for one in runs], axis=1)
    table = table - table.mean(0)
    covariance = table.T @ table / (len(table) - 1)
    wanted = covariance - np.diag([one.cell_noise for one in runs])
    return table @ np.linalg.pinv(_root(covariance), hermitian=True) @ _root(wanted)


def _root(matrix: Array) -> Array:
    """Return the symmetric square root of a symmetric matrix; negative eigenvalues count as 0."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def _model_noise(errors: Array, df: float, bootstrap: Bootstrap) -> tuple[Array, Array]:
    """Return the deviations [resamples, A] of the means when the models are trained again, and factors for t tails."""
    normal = bootstrap.rng.standard_normal((bootstrap.resamples, len(errors)))
    return normal * np.sqrt(errors), _student(df, bootstrap)


def _student(df: float, bootstrap: Bootstrap) -> Array:
    """Return factors [resamples, 1] that turn normal draws into those of Student's t."""
    return np.sqrt(df / bootstrap.rng.chisquare(df, (bootstrap.resamples, 1)))


def _degrees_of_freedom(sizes: Array, weights: Array, means: Array, errors: Array, replicates: Sequence[int]) -> float:
    """Return Satterthwaite's degrees of freedom of v(N) minus the arm, at N as estimated."""
    count, step = len(sizes), 1e-6
    moved = means[:-1] + step * np.concatenate([np.zeros((1, count)), np.eye(count)])
    curve = fit_monotone(sizes, moved, weights)
    n = float(np.clip(curve.inverse(np.full(count + 1, means[-1]))[0], sizes[0], sizes[-1]))
    values = curve.at(n)
    squares = np.append(((values[1:] - values[0]) / step) ** 2, 1.0) * errors
    if not squares.any():
        return float(min(replicates) - 1)
    return float(squares.sum() ** 2 / (squares**2 / (np.array(replicates) - 1)).sum())


def _check_runs(runs: Sequence[Runs]) -> None:
    units = {one.scores.shape[2] for one in runs}
    if len(units) > 1 or min(units) < 2:
        raise ValueError(f"all runs must be scored on the same test units, at least two; found {sorted(units)}")
    if any(len(one.replicates) < 2 for one in runs):
        raise ValueError("every point of the curve and the arm need at least two seeds or three draws")
