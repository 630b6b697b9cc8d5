"""Screening in the report: per screened training set, what was asked, kept and dropped. No torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.mix.screening import RECORD

TOP = 12  # dropped images listed per training set


@dataclass(frozen=True)
class ScreenedSet:
    """The screening of one training set as the page shows it."""

    training_set: str
    rules: str
    record: dict[str, Any]  # screening.json
    dropped: list[dict[str, Any]]  # the TOP least faithful of its dropped images


def screenings(study: str, training_sets: Mapping[str, TrainingSet]) -> list[ScreenedSet]:
    """Return the screened training sets in the order of params.yaml. Raises UserError where one has not been made."""
    return [_screening(study, name, arm) for name, arm in training_sets.items() if arm.screened]


def rules(arm: TrainingSet) -> str:
    """Return the rules of screening in words."""
    words = [] if arm.share is None else [f"the most faithful {100 * arm.share:g} %"]
    words += [] if arm.screen_min_dice is None else [f"Dice of at least {arm.screen_min_dice:g}"]
    return "; ".join([*words, "no suspected copy"] if arm.drop_copies else words)


def _screening(study: str, name: str, arm: TrainingSet) -> ScreenedSet:
    path = paths.training_set(study, name) / RECORD
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage mix for {name}")
    record = files.read_json(path)
    worst = sorted(record["dropped_images"], key=lambda row: (row["dice"] or 0.0, row["id"]))
    return ScreenedSet(name, rules(arm), record, worst[:TOP])
