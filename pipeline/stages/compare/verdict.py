"""From numbers to verdicts: better, worse, equivalent or inconclusive."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.metrics.statistics.resampling import holm
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.params import Compare

FEWEST_UNITS = 6  # of fewer, no pattern of signs is rarer than 1 in 20, and their spread is a guess


class Verdict(StrEnum):
    """A verdict on an arm or a segmenter."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"  # the difference surely lies within the margin
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Conclusion:
    """p-values adjusted over a family of comparisons, and the verdict."""

    p_holm: float
    p_images_holm: float
    verdict: Verdict
    reason: str | None = None  # why there can be no verdict, as a sentence

    @property
    def largest_p(self) -> float:
        """The larger of the two adjusted p-values, both of which must be below the level."""
        return max(self.p_holm, self.p_images_holm)


def conclude(family: Sequence[Evidence], compare: Compare, sign: int = 1) -> list[Conclusion]:
    """Adjust the p-values of a family of comparisons (Holm) and decide on each; `sign` is -1 where less is better."""
    adjusted = zip(holm([one.p for one in family]), holm([one.p_images for one in family]), strict=True)
    return [
        Conclusion(p, p_images, decide(evidence, max(p, p_images), compare, sign), no_verdict(evidence))
        for evidence, (p, p_images) in zip(family, adjusted, strict=True)
    ]


def decide(evidence: Evidence, adjusted_p: float, compare: Compare, sign: int = 1) -> Verdict:
    """Return the verdict on a difference.

    Equivalent where two one-sided tests place it within +-margin; better or worse where `adjusted_p`, the larger of the
    adjusted p of seeds and images and that of images alone (sign flips), is below the level. What `no_verdict` gives a
    reason against is inconclusive.
    """
    level = 1 - compare.confidence
    if no_verdict(evidence):
        return Verdict.INCONCLUSIVE
    if evidence.p_equivalent < level:
        return Verdict.EQUIVALENT
    if evidence.difference_low <= 0 <= evidence.difference_high or adjusted_p >= level:
        return Verdict.INCONCLUSIVE
    return Verdict.BETTER if sign * evidence.difference > 0 else Verdict.WORSE


def no_verdict(evidence: Evidence) -> str | None:
    """Return, as a sentence, why no verdict can rest on a difference, whatever its p; None where one can."""
    if evidence.n_seeds < 2:
        return "One seed cannot tell an effect from chance."
    if evidence.n_units < FEWEST_UNITS:
        images = f"{evidence.n_images} test image{'s' if evidence.n_images > 1 else ''}"
        if evidence.n_units < evidence.n_images:
            images += f" in {evidence.n_units} group{'s' if evidence.n_units > 1 else ''} (such as a patient)"
        return f"Only {images}; a verdict takes {FEWEST_UNITS} that are independent."
    return None


def close_call(evidence: Evidence, conclusion: Conclusion, compare: Compare) -> str | None:
    """Say how near the p that decides is to the level, where it is within a factor of two; None elsewhere.

    Equivalence is decided first: its p may overturn any verdict, the others only a verdict that is not equivalence.
    """
    deciding = [evidence.p_equivalent]
    if conclusion.verdict != Verdict.EQUIVALENT:
        deciding.append(conclusion.largest_p)
    return None if conclusion.reason else near_level(deciding, compare)


def near_level(p_values: Sequence[float], compare: Compare) -> str | None:
    """Return the p nearest to the level in words, where it is within a factor of two of it; None elsewhere."""
    level = 1 - compare.confidence
    p = min(p_values, key=lambda p: abs(math.log(p / level)))
    if not level / 2 <= p <= 2 * level:
        return None
    return f"close: p {p:.3g} of {level:.3g}; another processor may decide otherwise"
