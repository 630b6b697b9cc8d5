"""How well a score tells members of a training set from others: AUC, and members found at few false positives.

Scores are large for a member. Intervals resample whole units (patients) of both sides; images without one are units of
their own. A rate of false positives that the controls cannot resolve is refused, not extrapolated. An interval of few
units is refused too: by chance alone, all of three members score above all of three controls in one of 20 cases, and
every resample repeats that.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.statistics.grouped import Interval, Units, labels_of, percentile
from pipeline.metrics.statistics.proportion import exact_interval
from pipeline.metrics.statistics.resampling import Array

RATES = (0.05, 0.01, 0.001)  # of false positives
FEWEST_UNITS = 6  # of a side; with them, an interval errs on either side in about 3 % of simulated cases
BLOCK = 512  # members compared with all controls at once


@dataclass(frozen=True)
class Side:
    """The scores [n] of members or of controls, and the unit of each image."""

    scores: Array
    units: Units

    def resampled(self, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return how often each image is in each bootstrap sample of the units [resamples, n]."""
        labels = labels_of(self.units.names)
        count = int(labels.max()) + 1
        drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
        return np.asarray(drawn[:, labels], np.int64)


@dataclass(frozen=True)
class Found:
    """The members above the threshold that at most `allowed` controls exceed; without a threshold the reason.

    `exact` is the interval of Clopper and Pearson: new members, all independent, and this threshold. `bootstrap` draws
    members, controls and with them the threshold again, by unit.
    """

    rate: float  # of false positives
    allowed: int
    threshold: float | None = None
    share: float | None = None
    exact: Interval | None = None
    bootstrap: Interval | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Attack:
    """What an attack achieves on members and controls."""

    auc: float  # chance that a member has a larger score than a control; 0.5: guessing
    interval: Interval
    found: tuple[Found, ...]  # by rate


def evaluate(
    members: Side, controls: Side, resamples: int, rng: np.random.Generator, rates: tuple[float, ...] = RATES
) -> Attack:
    """Evaluate the scores of an attack. Raises ValueError where a side has no image or a score is not finite."""
    for name, side in (("member", members), ("control", controls)):
        if not len(side.scores):
            raise ValueError(f"there is no {name} to attack")
        if not np.isfinite(side.scores).all():
            raise ValueError(f"{int((~np.isfinite(side.scores)).sum())} {name} scores are not finite")
    weights = members.resampled(resamples, rng), controls.resampled(resamples, rng)
    interval = _interval(weighted_auc(members.scores, controls.scores, *weights), members, controls)
    found = tuple(_found(members, controls, rate, *weights) for rate in rates)
    once = (np.ones((1, len(side.scores)), np.int64) for side in (members, controls))
    return Attack(float(weighted_auc(members.scores, controls.scores, *once)[0]), interval, found)


def weighted_auc(
    members: Array, controls: Array, of_members: NDArray[np.int64], of_controls: NDArray[np.int64]
) -> Array:
    """Return the AUC [R] for each row of counts [R, n] of members [n] and [R, m] of controls [m]; ties count half."""
    total = np.zeros(len(of_members))
    counts = of_controls.astype(np.float64)
    for start in range(0, len(members), BLOCK):
        part = slice(start, start + BLOCK)
        above = (np.sign(members[part, None] - controls[None]) + 1) / 2
        total += (of_members[:, part] * (counts @ above.T)).sum(1)
    return total / (of_members.sum(1) * of_controls.sum(1))


def weighted_share(
    members: Array, controls: Array, rate: float, of_members: NDArray[np.int64], of_controls: NDArray[np.int64]
) -> Array:
    """Return the share [R] of the members above the threshold of each row of counts, as `evaluate` has for counts 1."""
    order = np.argsort(-controls, kind="stable")
    counts = of_controls[:, order].cumsum(1)
    first = (counts > allowed(rate, counts[:, -1:])).argmax(1)
    above = members[None] > controls[order][first][:, None]
    return (of_members * above).sum(1) / of_members.sum(1)


def allowed(rate: float, controls: NDArray[np.int64] | int) -> NDArray[np.int64]:
    """Return the number of false positives among so many controls that does not exceed the rate."""
    return np.floor(rate * np.asarray(controls) * (1 + 1e-12)).astype(np.int64)


def _found(
    members: Side, controls: Side, rate: float, of_members: NDArray[np.int64], of_controls: NDArray[np.int64]
) -> Found:
    count = int(allowed(rate, len(controls.scores)))
    if not count:
        needed = math.ceil(1 / rate * (1 - 1e-12))
        reason = f"{rate:.1%} false positives need at least {needed} controls; there are {len(controls.scores)}"
        return Found(rate, 0, reason=reason)
    threshold = float(np.sort(controls.scores)[-count - 1])
    above, n = int((members.scores > threshold).sum()), len(members.scores)
    draws = weighted_share(members.scores, controls.scores, rate, of_members, of_controls)
    bootstrap = _interval(draws, members, controls)
    return Found(rate, count, threshold, above / n, Interval(*exact_interval(above, n)), bootstrap)


def _interval(draws: Array, members: Side, controls: Side) -> Interval:
    """Return the percentile interval of bootstrap draws; with too few units on a side the reason instead."""
    interval = percentile(draws, members.units, controls.units)
    for name, side in (("training", members), ("held-out", controls)):
        if len(side.units) < FEWEST_UNITS:
            what = "groups (such as patients)" if side.units.are_groups else "images"
            reason = f"an interval needs at least {FEWEST_UNITS} {name} {what}; found {len(side.units)}"
            return Interval(None, None, interval.n_groups, reason)
    return interval
