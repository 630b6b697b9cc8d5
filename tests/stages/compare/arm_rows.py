"""Arms as compare_arms leaves them, from a few values by name."""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from pipeline.stages.compare.arms import Arm, DifferenceStatistics
from pipeline.stages.compare.claim import Claim, headline
from pipeline.stages.compare.paired_difference import Evidence
from pipeline.stages.compare.verdict import Conclusion, Verdict, no_verdict
from pipeline.stages.mix.treatments import Treatment

USUAL = {"segmenter": "unet", "training_set": "siamese_x1", "role": "arm", "n_images": 128}
USUAL |= {"n_units": 128, "n_seeds": 3, "n_generators": 1, "retrained_sd": 0.0}
USUAL |= {"difference": 0.02, "difference_low": 0.005, "difference_high": 0.035, "val_difference": 0.02}
USUAL |= {"p_holm": 0.01, "p_images_holm": 0.01, "p_equivalent": 0.9, "p_equivalent_holm": 0.9, "verdict": "better"}
USUAL |= {"val_dice": 0.8}


def row(**changes: Any) -> Arm:
    """An arm with USUAL values where none are given, and None elsewhere."""
    values: dict[str, Any] = USUAL | changes
    parts = [
        part(**{field.name: values.get(field.name) for field in fields(part)})
        for part in (Evidence, DifferenceStatistics)
    ]
    adjusted = values["p_holm"], values["p_images_holm"], values["p_equivalent_holm"]
    conclusion = Conclusion(*adjusted, Verdict(values["verdict"]), no_verdict(parts[0]))
    names = [field.name for field in fields(Arm)[:-3]]
    return Arm(
        **{name: values.get(name) for name in names}, evidence=parts[0], statistics=parts[1], conclusion=conclusion
    )


def claim_of(arms: Sequence[Arm]) -> Claim | None:
    """The headline of arms whose generators have one training each."""
    names = dict.fromkeys(arm.training_set for arm in arms if arm.role == "arm")
    return headline(arms, [Treatment((name,)) for name in names])
