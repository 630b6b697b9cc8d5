"""The claim against the best rival: did synthesis bring more than other ways of using the same real images?

The rival is the one with the highest Dice on validation images, as the claim itself is chosen, so the difference
between the two on test images is one test at the full level. The stage confirm, where it has run, has trained both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.stages.compare.arms import Arm
from pipeline.stages.compare.claim import Claim, RivalDifference
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.generator_level import treatment_evidence
from pipeline.stages.compare.results import Record, Results
from pipeline.stages.compare.verdict import conclude
from pipeline.stages.mix.treatments import Treatment


def best_rival(arms: Sequence[Arm], segmenter: str) -> str | None:
    """Return the rival with the highest validation Dice under a segmenter, the first of equal ones; None without."""
    there = [arm for arm in arms if arm.role == "rival" and arm.segmenter == segmenter]
    best = max(there, key=lambda arm: arm.val_dice, default=None)
    return best and best.training_set


def with_rival(
    claim: Claim | None,
    design: Design,
    arms: Sequence[Arm],
    grids: Mapping[str, Results],
    confirmation: tuple[Record, Results] | None,
) -> Claim | None:
    """Return the claim with its difference to the best rival; unchanged where the study has none.

    `grids` holds the results by segmenter. A confirmed claim meets the rival that its confirmation trained, any other
    the best of those with the same real images.
    """
    if claim is None:
        return None
    own = design.reference_of(claim.training_sets[0])
    there = [n for n in design.training_sets if design.role(n) == "rival" and design.reference_of(n) == own]
    if claim.confirmed:
        assert confirmation
        choice, results = confirmation
        rival = choice.get("rival")
    else:
        results = grids[claim.segmenter]
        rival = best_rival([arm for arm in arms if arm.training_set in there], claim.segmenter)
    if rival is None:
        return claim
    return replace(claim, rival=rival_difference(design, claim.training_sets, rival, results, len(there)))


def rival_difference(
    design: Design, training_sets: tuple[str, ...], rival: str, results: Results, rivals: int
) -> RivalDifference:
    """Return the difference of a treatment to one of so many rivals on test images, decided by itself."""
    against = replace(design, compare=design.compare.model_copy(update={"reference": rival}))
    evidence = treatment_evidence(against, Treatment(training_sets), results)
    (conclusion,) = conclude([evidence], design.compare)
    return RivalDifference(rival, rivals, evidence, conclusion)
