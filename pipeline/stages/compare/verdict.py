"""From numbers to verdicts: better, worse, equivalent or inconclusive."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from scipy.special import ndtr, ndtri

from pipeline.metrics.statistics.resampling import holm
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.params import Compare

FEWEST_SEEDS = 3  # two seeds know their spread with one degree of freedom
CLOSE = 0.1  # chance of another verdict from which on the sentence says so
FEWEST_UNITS = 6  # of fewer, no pattern of signs is rarer than 1 in 20, and their spread is a guess


class Verdict(StrEnum):
    """A verdict on an arm or a segmenter."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"  # the difference surely lies within the margin
    NOT_ZERO = "equivalent, yet not zero"  # and it surely is a difference
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Conclusion:
    """p-values adjusted over a family of comparisons, and the verdict."""

    p_holm: float
    p_images_holm: float
    p_equivalent_holm: float
    verdict: Verdict
    reason: str | None = None  # why there can be no verdict, as a sentence

    @property
    def largest_p(self) -> float:
        """The larger of the two adjusted p-values, both of which must be below the level."""
        return max(self.p_holm, self.p_images_holm)


def conclude(family: Sequence[Evidence], compare: Compare, sign: int = 1) -> list[Conclusion]:
    """Adjust the p-values of a family of comparisons and decide on each; `sign` is -1 where less is better.

    Holm's correction holds the chance of any false "better" or "worse" in the family at the level, and, apart from it,
    the chance of any false "equivalent".
    """
    adjusted = zip(*(holm(column) for column in _columns(family)), strict=True)
    return [
        Conclusion(p, p_images, p_equivalent, decide(evidence, max(p, p_images), p_equivalent, compare, sign), reason)
        for evidence, (p, p_images, p_equivalent) in zip(family, adjusted, strict=True)
        for reason in [no_verdict(evidence)]
    ]


def _columns(family: Sequence[Evidence]) -> list[list[float]]:
    """Return the p-values of both tests of a difference, and of the test of equivalence."""
    return [[one.p for one in family], [one.p_images for one in family], [one.p_equivalent for one in family]]


def decide(evidence: Evidence, adjusted_p: float, p_equivalent: float, compare: Compare, sign: int = 1) -> Verdict:
    """Return the verdict on a difference from its adjusted p-values.

    Better or worse where `adjusted_p`, the larger of the p for new seeds and images and the p for images alone (sign
    flips), is below the level and the interval excludes 0; equivalent where two one-sided tests place the difference
    within +-margin (`p_equivalent`); "equivalent, yet not zero" where both hold. A difference for which `no_verdict`
    returns a reason is inconclusive.
    """
    level = 1 - compare.confidence
    if no_verdict(evidence):
        return Verdict.INCONCLUSIVE
    differs = adjusted_p < level and not evidence.difference_low <= 0 <= evidence.difference_high
    if p_equivalent < level:
        return Verdict.NOT_ZERO if differs else Verdict.EQUIVALENT
    if not differs:
        return Verdict.INCONCLUSIVE
    return Verdict.BETTER if sign * evidence.difference > 0 else Verdict.WORSE


def no_verdict(evidence: Evidence) -> str | None:
    """Return, as a sentence, why no verdict can rest on a difference, whatever its p; None where one can."""
    if evidence.n_seeds < 2:
        return "One seed cannot tell an effect from chance."
    if evidence.n_seeds < FEWEST_SEEDS:
        return f"Two seeds are too few; a verdict needs {FEWEST_SEEDS}, better five."
    if evidence.n_units < FEWEST_UNITS:
        images = f"{evidence.n_images} test image{'s' if evidence.n_images > 1 else ''}"
        if evidence.n_units < evidence.n_images:
            images += f" in {evidence.n_units} group{'s' if evidence.n_units > 1 else ''} (such as a patient)"
        return f"Only {images}; a verdict needs {FEWEST_UNITS} independent ones."
    return None


def close_call(evidence: Evidence, conclusion: Conclusion, compare: Compare) -> str | None:
    """Say that a verdict is close; None where it is not.

    It is close where a p that decides is within a factor of two of the level, or where training the segmenters again on
    another processor would change the verdict with a probability of at least `CLOSE`. The p of equivalence and the p of
    the difference can each change the verdict on their own.
    """
    if conclusion.reason:
        return None
    chance = chance_of_change(evidence, conclusion, compare)
    if chance >= CLOSE:
        level, near = 1 - compare.confidence, near_level({"": conclusion.largest_p}, compare)
        return (
            f"{'close: ' if near or chance >= 2 * CLOSE else ''}p = {conclusion.largest_p:.3g} at the {level:.3g} level"
            f"; the chance of a different verdict on another processor is about {100 * chance:.0f} %"
        )
    return near_level({" for equivalence": conclusion.p_equivalent_holm, "": conclusion.largest_p}, compare)


def chance_of_change(evidence: Evidence, conclusion: Conclusion, compare: Compare) -> float:
    """Return the chance that a difference gains or loses its significance when the segmenters are trained again.

    Last bits grow into another model, as another seed would give (docs/reproducibility.md). The distance between the
    difference and the threshold changes by `retrained_sd`, which is taken as normal. 0 where the seeds do not differ.
    """
    apart = evidence.retrained_sd
    if not apart:
        return 0.0
    level, family = 1 - compare.confidence, conclusion.p_holm / max(evidence.p, 1e-300)
    half = (evidence.difference_high - evidence.difference_low) / 2
    threshold = half * ndtri(1 - level / max(1.0, family) / 2) / ndtri(1 - level / 2)
    size = abs(evidence.difference)
    beyond = float(ndtr((size - threshold) / apart) + ndtr((-size - threshold) / apart))
    return 1 - beyond if conclusion.largest_p < level else beyond


def near_level(p_values: Mapping[str, float], compare: Compare) -> str | None:
    """Return the p nearest to the level in words, where it is within a factor of two of it; None elsewhere.

    The keys of `p_values` say in the sentence what each p tests.
    """
    level = 1 - compare.confidence
    test, p = min(p_values.items(), key=lambda item: abs(math.log(item[1] / level)))
    if not level / 2 <= p <= 2 * level:
        return None
    return f"close: p = {p:.3g}{test} at the {level:.3g} level; the verdict may differ on another processor"
