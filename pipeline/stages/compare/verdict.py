"""From numbers to verdicts: better, worse, equivalent or inconclusive."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.metrics.statistics.resampling import holm
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.params import Compare


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
        Conclusion(p, p_images, decide(evidence, max(p, p_images), compare, sign))
        for evidence, (p, p_images) in zip(family, adjusted, strict=True)
    ]


def decide(evidence: Evidence, adjusted_p: float, compare: Compare, sign: int = 1) -> Verdict:
    """Return the verdict on a difference.

    Equivalent where two one-sided tests place it within +-margin; better or worse where `adjusted_p`, the larger of the
    adjusted p of seeds and images and that of images alone (sign flips), is below the level. One seed or one image
    decides nothing.
    """
    level = 1 - compare.confidence
    if evidence.n_seeds < 2 or evidence.n_images < 2:
        return Verdict.INCONCLUSIVE
    if evidence.p_equivalent < level:
        return Verdict.EQUIVALENT
    if evidence.difference_low <= 0 <= evidence.difference_high or adjusted_p >= level:
        return Verdict.INCONCLUSIVE
    return Verdict.BETTER if sign * evidence.difference > 0 else Verdict.WORSE
