"""Screening in the report: per screened training set, what was asked, kept and dropped. No torch."""

from dataclasses import dataclass
from typing import Any

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.mix.screening import RECORD
from pipeline.study import Params

TOP = 12  # dropped images listed per training set


@dataclass(frozen=True)
class ScreeningOf:
    """What the page shows of one training set's screening."""

    training_set: str
    rules: str
    record: dict[str, Any]  # screening.json
    dropped: list[dict[str, Any]]  # the TOP least faithful of its dropped images


def screenings(params: Params) -> list[ScreeningOf]:
    """The screened training sets in the order of params.yaml. Raises UserError where one has not been made."""
    return [_screening(params, name, arm) for name, arm in params.training_sets.items() if arm.screened]


def rules(arm: TrainingSet) -> str:
    """What was asked, in words."""
    told = [] if arm.screen is None else [f"the most faithful {100 * arm.screen:g} %"]
    told += [] if arm.screen_min_dice is None else [f"Dice of at least {arm.screen_min_dice:g}"]
    return "; ".join([*told, "no suspected copy"] if arm.drop_copies else told)


def _screening(params: Params, name: str, arm: TrainingSet) -> ScreeningOf:
    path = paths.training_set(params.study, name) / RECORD
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage mix for {name}")
    record = files.read_json(path)
    worst = sorted(record["dropped_images"], key=lambda row: (row["dice"] or 0.0, row["id"]))
    return ScreeningOf(name, rules(arm), record, worst[:TOP])
