"""The one sentence that a study of arms ends in, and the rule by which a failed control withdraws every claim.

The sentence speaks of the treatment with the highest Dice on validation images (claim.headline). Where an A/A control
differs from the reference under a segmenter, no comparison under that segmenter keeps its verdict, in the sentence and
in the table.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from pipeline.stages.compare.arms import Arm
from pipeline.stages.compare.claim import Claim
from pipeline.stages.compare.generator_level import TreatmentEffect
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.subgroups import SubgroupDifference
from pipeline.stages.compare.verdict import CLOSE, Conclusion, Verdict, close_call

OPENINGS = {
    Verdict.BETTER: "Synthetic data helped:",
    Verdict.WORSE: "Synthetic data hurt:",
    Verdict.EQUIVALENT: "Synthetic data made no difference that matters:",
    Verdict.NOT_ZERO: "Synthetic data made a difference too small to matter:",
    Verdict.INCONCLUSIVE: "Inconclusive:",
}
Concluded = TypeVar("Concluded", Arm, TreatmentEffect, Claim, SubgroupDifference)


def failed_controls(arms: Sequence[Arm], segmenter: str) -> list[Arm]:
    """Return the A/A controls of a segmenter that differ from its reference."""
    controls = [arm for arm in arms if arm.role == "control" and arm.segmenter == segmenter]
    return [arm for arm in controls if _parts(arm)[1].verdict in (Verdict.BETTER, Verdict.WORSE)]


def withdraw_claims(arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms; where a control failed, all others of its segmenter are inconclusive, with the reason."""
    return [arm if arm.role == "control" else withdrawn(arm, failed_controls(arms, arm.segmenter)) for arm in arms]


def withdrawn(one: Concluded, failed: Sequence[Arm]) -> Concluded:
    """Return a comparison without its verdict, with the reason, if it has one and controls of its segmenter failed."""
    conclusion = one.conclusion
    if not failed or conclusion is None or conclusion.verdict == Verdict.INCONCLUSIVE:
        return one
    reason = " ".join(map(control_note, failed))
    return replace(one, conclusion=replace(conclusion, verdict=Verdict.INCONCLUSIVE, reason=reason))


def withdraw_headline(claim: Claim, failed: Sequence[Arm]) -> Claim:
    """Return the claim without its verdicts, also on its rival, if controls of its segmenter failed."""
    if not failed or claim.rival is None:
        return withdrawn(claim, failed)
    conclusion = replace(claim.rival.conclusion, verdict=Verdict.INCONCLUSIVE)
    return withdrawn(replace(claim, rival=replace(claim.rival, conclusion=conclusion)), failed)


def control_note(control: Arm) -> str:
    """Return, as a sentence, that an A/A control differs from its reference."""
    gap = f"{100 * _parts(control)[0].difference:+.1f} points"
    return f"The control {control.training_set}, trained on the same images, differs too ({gap})."


def sentence(claim: Claim | None, arms: Sequence[Arm], compare: Compare) -> str:
    """Return the verdict of a study. A control arm that differs from the reference withdraws every claim."""
    if claim is None:
        return "Inconclusive: no training set holds synthetic images."
    failed = failed_controls(arms, claim.segmenter)
    verdict = Verdict.INCONCLUSIVE if failed else claim.conclusion.verdict
    found = _numbers(claim, compare) + _harm(claim)
    numbers = "; ".join(filter(None, [found, close_call(claim.evidence, claim.conclusion, compare)]))
    controls = [one for one in arms if one.role == "control" and one.segmenter == claim.segmenter]
    rival = [] if failed else _rival_note(claim, compare)
    notes = [*rival, *_caveats(claim, failed), *_close_choice(claim), *_close_controls(claim, controls, compare)]
    return " ".join([OPENINGS[verdict], f"{numbers}.", *notes])


def _parts(arm: Arm) -> tuple[Evidence, Conclusion]:
    """Return what every concluded arm but the reference has."""
    assert arm.evidence and arm.conclusion
    return arm.evidence, arm.conclusion


def _numbers(claim: Claim, compare: Compare) -> str:
    evidence = claim.evidence
    mean, low, high = (100 * end for end in (evidence.difference, evidence.difference_low, evidence.difference_high))
    reference = claim.reference or compare.reference
    seeds = f"{evidence.n_seeds} {'fresh ' if claim.confirmed else ''}seed{'s' if evidence.n_seeds != 1 else ''}"
    return (
        f"{claim.segmenter}, {' and '.join(claim.training_sets)} {mean:+.1f} Dice points [{low:.1f}, {high:.1f}]"
        f" over {reference} (n = {evidence.n_images} images, {seeds}), {_generators(evidence, claim.folds)}"
    )


def _harm(claim: Claim) -> str:
    """Say in which subgroups the treatment is worse; an empty text where there is none."""
    parts = []
    for one in claim.harmed:
        arm = f", {one.training_sets[0]}" if len(one.training_sets) < len(claim.training_sets) else ""
        assert one.evidence
        ends = (one.difference, one.evidence.difference_low, one.evidence.difference_high)
        mean, low, high = (100 * end for end in ends)
        parts.append(f"{one.column} {one.level} ({mean:+.1f} [{low:.1f}, {high:.1f}]{arm})")
    joint = ", also" if claim.conclusion.verdict == Verdict.WORSE else ", but"
    return f"{joint} worse for {' and '.join(parts)}" if parts else ""


def _generators(evidence: Evidence, folds: int) -> str:
    """Say for which trainings of the generator the interval holds."""
    if evidence.n_generators == 1:
        return "for this one trained generator" if folds == 1 else f"for these {folds} trained generators, one per fold"
    return f"for new training runs of the generator, judged from {evidence.n_generators}"


def _rival_note(claim: Claim, compare: Compare) -> list[str]:
    """Say whether the treatment is better than the best of what needs no synthesis, and than the reference alone."""
    if claim.rival is None:
        return []
    evidence, conclusion = claim.rival.evidence, claim.rival.conclusion
    mean, low, high = (100 * end for end in (evidence.difference, evidence.difference_low, evidence.difference_high))
    word = {Verdict.BETTER: "better", Verdict.WORSE: "worse"}.get(conclusion.verdict, "not better")
    if claim.conclusion.verdict == Verdict.BETTER:
        joint = {"better": " and", "worse": " but"}.get(word, "")
        word = f"better than {claim.reference or compare.reference} alone,{joint} {word}"
    place = (
        f"the best of {claim.rival.rivals} rivals on validation images" if claim.rival.rivals > 1 else "its one rival"
    )
    numbers = f"{mean:+.1f} [{low:.1f}, {high:.1f}] points, p = {conclusion.largest_p:.2g}"
    return [f"It is {word} than {claim.rival.training_set} ({numbers}), {place}."]


def _caveats(claim: Claim, failed: Sequence[Arm]) -> list[str]:
    evidence, conclusion = claim.evidence, claim.conclusion
    notes = []
    if conclusion.reason:
        notes.append(conclusion.reason)
    notes += map(control_note, failed)
    excludes_zero = not evidence.difference_low <= 0 <= evidence.difference_high
    if conclusion.verdict == Verdict.INCONCLUSIVE and not conclusion.reason and excludes_zero:
        p = conclusion.largest_p
        why = (
            "the sign flips of images do not agree" if claim.confirmed else "not after the correction for several arms"
        )
        notes.append(f"The interval excludes 0, but {why} (p = {p:.2g}).")
    return notes


def _close_choice(claim: Claim) -> list[str]:
    """Return a note where training the grid again is likely to make validation choose another arm."""
    if not claim.other_choice or claim.other_choice < CLOSE:
        return []
    arm, chance = " and ".join(claim.training_sets), 100 * claim.other_choice
    return [
        f"The choice of {arm} is close: on another processor, there is a chance of about {chance:.0f} % that validation"
        " would choose a different arm."
    ]


def _close_controls(claim: Claim, controls: Sequence[Arm], compare: Compare) -> list[str]:
    """Return a note on every control that all but withdraws the claim, or only just does."""
    if claim.conclusion.verdict == Verdict.INCONCLUSIVE:
        return []
    calls = [(one.training_set, close_call(*_as_difference(one), compare)) for one in controls]
    return [f"The control {name} is {call}." for name, call in calls if call and call.startswith("close")]


def _as_difference(control: Arm) -> tuple[Evidence, Conclusion]:
    """Return the parts of a control without its equivalence, which withdraws nothing."""
    evidence, conclusion = _parts(control)
    return evidence, replace(conclusion, p_equivalent_holm=1.0)
