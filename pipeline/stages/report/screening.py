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

    @property
    def ignored(self) -> str:
        """How many pixels of the images that are kept are ignored, by class; empty where none may be."""
        found = self.record.get("pixels", [])
        return "; ".join(f"{one['ignored']} of {one['pixels']} pixels of class {one['class']}" for one in found)

    @property
    def corrected(self) -> str:
        """How many labels the judge corrected; empty where it may not."""
        found = self.record.get("corrected")
        return f"{found['pixels']} pixels of {found['images']} images" if found else ""

    @property
    def resampled(self) -> str:
        """How many masks have how many images; empty where all have equally many."""
        return ", ".join(f"{masks} masks × {copies}" for copies, masks in self.record.get("resampled", {}).items())


def screenings(study: str, training_sets: Mapping[str, TrainingSet]) -> list[ScreenedSet]:
    """Return the screened training sets in the order of params.yaml. Raises UserError where one has not been made."""
    return [_screening(study, name, arm) for name, arm in training_sets.items() if arm.chosen]


def rules(arm: TrainingSet) -> str:
    """Return the rules of screening, of labels and of resampling in words."""
    words = [] if arm.share is None else [f"the most faithful {100 * arm.share:g} %"]
    words += [] if arm.screen_min_dice is None else [f"Dice of at least {arm.screen_min_dice:g}"]
    words += ["no suspected copy"] if arm.drop_copies else []
    words += ["more copies of masks that the judge finds hard"] if arm.resample else []
    if arm.labels:
        words.append(f"labels corrected where the judge gives at least {arm.labels.corrected:g}")
    if arm.pixel_screen:
        words.append(f"pixels ignored beyond {arm.pixel_screen.pixels:g} times the judge’s loss on real ones")
    return "; ".join(words)


def _screening(study: str, name: str, arm: TrainingSet) -> ScreenedSet:
    path = paths.training_set(study, name) / RECORD
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage mix for {name}")
    record = files.read_json(path)
    worst = sorted(record["dropped_images"], key=lambda row: (row["dice"] or 0.0, row["id"]))
    return ScreenedSet(name, rules(arm), record, worst[:TOP])
