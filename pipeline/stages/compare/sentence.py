"""The one sentence that a study of arms ends in, and the rule by which a failed control withdraws every claim.

The sentence speaks of the arm with the highest Dice on validation images. Where an A/A control differs from the
reference under a segmenter, no comparison under that segmenter keeps its verdict, in the sentence and in the table.
"""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.stages.compare.arms import Arm, DifferenceStatistics
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.params import Compare
from pipeline.stages.compare.verdict import Conclusion, Verdict, close_call, near_level

OPENINGS = {
    Verdict.BETTER: "Synthetic data helped:",
    Verdict.WORSE: "Synthetic data hurt:",
    Verdict.EQUIVALENT: "Synthetic data made no difference that matters:",
    Verdict.INCONCLUSIVE: "Inconclusive:",
}


def headline(arms: Sequence[Arm]) -> Arm | None:
    """Return the arm of the sentence, the highest Dice on validation images; None where no arm is synthetic."""
    candidates = [arm for arm in arms if arm.role == "arm"]
    return max(candidates, key=lambda arm: arm.val_dice, default=None)


def failed_controls(arms: Sequence[Arm], segmenter: str) -> list[Arm]:
    """Return the A/A controls of a segmenter that differ from its reference."""
    controls = [arm for arm in arms if arm.role == "control" and arm.segmenter == segmenter]
    return [arm for arm in controls if _parts(arm)[2].verdict in (Verdict.BETTER, Verdict.WORSE)]


def withdraw_claims(arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms; where a control failed, all others of its segmenter are inconclusive, with the reason."""
    return [_withdrawn(arm, failed_controls(arms, arm.segmenter)) for arm in arms]


def _withdrawn(arm: Arm, failed: Sequence[Arm]) -> Arm:
    """Return an arm without its claim, if it makes one that failed controls contradict."""
    conclusion = arm.conclusion
    if not failed or arm.role == "control" or conclusion is None or conclusion.verdict == Verdict.INCONCLUSIVE:
        return arm
    reason = " ".join(map(_control_note, failed))
    return replace(arm, conclusion=replace(conclusion, verdict=Verdict.INCONCLUSIVE, reason=reason))


def _control_note(control: Arm) -> str:
    gap = f"{100 * _parts(control)[0].difference:+.1f} points"
    return f"The control {control.training_set}, trained on the same images, differs too ({gap})."


def sentence(arms: Sequence[Arm], compare: Compare) -> str:
    """Return the verdict of a study. A control arm that differs from the reference withdraws every claim."""
    arm = headline(arms)
    if arm is None:
        return "Inconclusive: no training set holds synthetic images."
    failed = failed_controls(arms, arm.segmenter)
    evidence, _, conclusion = _parts(arm)
    verdict = Verdict.INCONCLUSIVE if failed else conclusion.verdict
    close = None if failed else close_call(evidence, conclusion, compare)
    numbers = "; ".join(filter(None, [_numbers(arm, compare), close]))
    controls = [one for one in arms if one.role == "control" and one.segmenter == arm.segmenter]
    notes = [*_caveats(arm, failed), *_close_controls(arm, controls, compare)]
    return " ".join([OPENINGS[verdict], f"{numbers}.", *notes])


def _parts(arm: Arm) -> tuple[Evidence, DifferenceStatistics, Conclusion]:
    """Return what every concluded arm but the reference has."""
    assert arm.evidence and arm.statistics and arm.conclusion
    return arm.evidence, arm.statistics, arm.conclusion


def _numbers(arm: Arm, compare: Compare) -> str:
    evidence, *_ = _parts(arm)
    mean, low, high = (100 * end for end in (evidence.difference, evidence.difference_low, evidence.difference_high))
    seeds = f"{arm.n_seeds} seed{'s' if arm.n_seeds != 1 else ''}"
    return (
        f"{arm.segmenter}, {arm.training_set} {mean:+.1f} Dice points [{low:.1f}, {high:.1f}]"
        f" over {compare.reference} (n = {arm.n_images} images, {seeds})"
    )


def _caveats(arm: Arm, failed: Sequence[Arm]) -> list[str]:
    evidence, _, conclusion = _parts(arm)
    notes = []
    if conclusion.reason:
        notes.append(conclusion.reason)
    for control in failed:
        notes.append(_control_note(control))
    excludes_zero = not evidence.difference_low <= 0 <= evidence.difference_high
    if conclusion.verdict == Verdict.INCONCLUSIVE and not conclusion.reason and excludes_zero:
        p = conclusion.largest_p
        notes.append(f"The interval leaves out 0, but not after the correction for several arms (p = {p:.2g}).")
    return notes


def _close_controls(arm: Arm, controls: Sequence[Arm], compare: Compare) -> list[str]:
    """Return a note on every control that all but withdraws the arm's claim, or only just does."""
    if _parts(arm)[2].verdict == Verdict.INCONCLUSIVE:
        return []
    calls = [(one.training_set, near_level([_parts(one)[2].largest_p], compare)) for one in controls]
    return [f"The control {name} is {call}." for name, call in calls if call]
