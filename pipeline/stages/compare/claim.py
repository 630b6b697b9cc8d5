"""The one difference that a study's sentence speaks of: the treatment with the highest Dice on validation images.

Where the stage confirm has run, the difference comes from models with fresh seeds, which took no part in the choice:
one test, decided at the full level. Otherwise it comes from the grid, with the p-values of its family.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from pipeline.stages.compare.arms import Arm
from pipeline.stages.compare.generator_level import TreatmentEffect
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.results import Record
from pipeline.stages.compare.subgroups import SubgroupDifference
from pipeline.stages.compare.verdict import Conclusion
from pipeline.stages.confirm.choice import candidates, choose
from pipeline.stages.mix.treatments import Treatment


@dataclass(frozen=True)
class RivalDifference:
    """The difference of a claim's treatment to the best rival, decided at its own level (see rivals)."""

    training_set: str  # the rival
    rivals: int  # training sets that it is the best of
    evidence: Evidence
    conclusion: Conclusion

    def record(self) -> Record:
        """Return what comparison.json holds under `headline.rival`."""
        about: Record = {"training_set": self.training_set, "rivals": self.rivals}
        return about | asdict(self.evidence) | asdict(self.conclusion)


@dataclass(frozen=True)
class Claim:
    """A treatment under one segmenter, with the evidence and the conclusion that the sentence reports."""

    segmenter: str
    training_sets: tuple[str, ...]  # one for each trained generator
    evidence: Evidence
    conclusion: Conclusion
    confirmed: bool = False  # whether the evidence comes from seeds that took no part in the choice
    rival: RivalDifference | None = None  # None: the study has no rival
    reference: str | None = None  # with which it is compared; None: compare.reference
    other_choice: float | None = None  # chance that validation, trained again, chooses another arm (chosen_again)
    folds: int = 1  # of a cross-validation that were pooled
    harmed: tuple[SubgroupDifference, ...] = ()  # subgroups of compare.subgroups in which the treatment is worse

    def record(self) -> Record:
        """Return what comparison.json holds under `headline`."""
        about: Record = {
            "segmenter": self.segmenter,
            "training_sets": list(self.training_sets),
            "confirmed": self.confirmed,
            "reference": self.reference,
            "other_choice": self.other_choice,
        }
        record = about | asdict(self.evidence) | asdict(self.conclusion)
        harmed: Record = {"harmed": [one.record() for one in self.harmed]} if self.harmed else {}
        return record | ({"rival": self.rival.record()} if self.rival else {}) | harmed


def headline(
    arms: Sequence[Arm],
    treatments: Sequence[Treatment],
    effects: Sequence[TreatmentEffect] = (),
    confirmed: Claim | None = None,
) -> Claim | None:
    """Return the claim of a study, or of one segmenter whose `arms` these are; None where no arm is synthetic.

    `effects` are the concluded treatments with several trained generators.
    """
    synthetic = {(arm.segmenter, arm.training_set): arm for arm in arms if arm.role == "arm"}
    if not synthetic:
        return None
    if confirmed and any(segmenter == confirmed.segmenter for segmenter, _ in synthetic):
        return confirmed
    chosen = choose(candidates({key: arm.val_dice for key, arm in synthetic.items()}, treatments))
    assert chosen
    several = {(one.spread.segmenter, one.treatment.training_sets): one for one in effects}
    source = several.get((chosen.segmenter, chosen.training_sets))
    source = source or synthetic[chosen.segmenter, chosen.training_sets[0]]
    assert source.evidence and source.conclusion
    return Claim(chosen.segmenter, chosen.training_sets, source.evidence, source.conclusion)


def with_harm(claim: Claim | None, subgroups: Sequence[SubgroupDifference]) -> Claim | None:
    """Return the claim with the subgroups in which its treatment is worse, by the models that the claim rests on."""
    if claim is None:
        return None
    harmed = [
        one
        for one in subgroups
        if one.is_harmed
        and (one.segmenter, one.confirmed) == (claim.segmenter, claim.confirmed)
        and {*one.training_sets} <= {*claim.training_sets}
    ]
    return replace(claim, harmed=tuple(harmed))
