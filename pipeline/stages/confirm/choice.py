"""Which arm is confirmed: the one with the highest Dice on validation images, of all segmenters and treatments.

Training sets that differ in the seed of their generator alone are one candidate (see treatments), whose validation Dice
is the mean over its sets. Test images have no say. No torch here.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.stages.mix.treatments import Treatment

RECORD = "choice.json"  # in the folder of the confirmation
DIGITS = 12  # of a mean: sums in another order must not break a tie


@dataclass(frozen=True)
class Candidate:
    """One segmenter under one treatment."""

    segmenter: str
    training_sets: tuple[str, ...]  # one for each trained generator
    val_dice: float  # mean over training sets, seeds and validation images


@dataclass(frozen=True)
class Choice:
    """What a confirmation trains, and the candidates that it was chosen from."""

    chosen: Candidate
    reference: str
    seeds: tuple[int, ...]
    candidates: tuple[Candidate, ...]
    rival: str | None = None  # the best training set without synthesis (mix.params.rivals); None: the study has none

    @property
    def training_sets(self) -> tuple[str, ...]:
        """The training sets of the confirmation, the reference first, the rival last."""
        return (self.reference, *self.chosen.training_sets, *([self.rival] if self.rival else []))

    def record(self) -> dict[str, Any]:
        """Return the content of choice.json."""
        return {
            "segmenter": self.chosen.segmenter,
            "training_sets": list(self.chosen.training_sets),
            "reference": self.reference,
            "seeds": list(self.seeds),
            "candidates": [asdict(one) for one in self.candidates],
            **({"rival": self.rival} if self.rival else {}),
        }


def candidates(val_dice: Mapping[tuple[str, str], float], treatments: Sequence[Treatment]) -> list[Candidate]:
    """Return every candidate of a study, segmenter by segmenter and treatment by treatment.

    `val_dice` gives the mean Dice on validation images by segmenter and training set, in the order of params.yaml.
    """
    segmenters = dict.fromkeys(segmenter for segmenter, _ in val_dice)
    return [
        Candidate(segmenter, one.training_sets, round(fmean(val_dice[segmenter, n] for n in one.training_sets), DIGITS))
        for segmenter in segmenters
        for one in treatments
    ]


def choose(among: Iterable[Candidate]) -> Candidate | None:
    """Return the candidate with the highest validation Dice, the first of equal ones; None where there is none."""
    return max(among, key=lambda one: one.val_dice, default=None)


def best_rival(val_dice: Mapping[tuple[str, str], float], segmenter: str, rivals: Iterable[str]) -> str | None:
    """Return the rival with the highest validation Dice under a segmenter, the first of equal ones; None without."""
    return max(rivals, key=lambda name: round(val_dice[segmenter, name], DIGITS), default=None)


def validation_dice(
    study: str, segmenter: str, training_sets: Iterable[str], seeds: Sequence[int]
) -> dict[tuple[str, str], float]:
    """Return the mean Dice on validation images, over the seeds of the grid, by segmenter and training set.

    Raises UserError where scores.csv of the segmenter is missing or lacks a cell.
    """
    folder = paths.segmentation(study, segmenter)
    files.check(folder)
    path = folder / "scores.csv"
    if not path.is_file():
        raise UserError(f"{path} does not exist; run the stage segment for {segmenter}")
    scores: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in tables.read_table(path):
        if row["split"] == "val":
            scores[row["training_set"], row["seed"]].append(float(row["dice"]))
    means = {}
    for name in training_sets:
        if missing := [seed for seed in seeds if not scores[name, str(seed)]]:
            raise UserError(f"{path} has no validation score of {name}, seed {missing[0]}; run segment again")
        means[segmenter, name] = fmean(dice for seed in seeds for dice in scores[name, str(seed)])
    return means


def publish_none(study: str) -> None:
    """Publish the record of a study that asks for no confirmation."""
    record: dict[str, Any] = {"seeds": []}
    work = paths.work("confirm", files.fingerprint(record))
    files.write_json(work / RECORD, record)
    files.publish(work, paths.confirmation(study))
