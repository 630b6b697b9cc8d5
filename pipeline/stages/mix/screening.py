"""Screening of a training set's synthetic images: the faithful ones stay, suspected copies of training images go.

All images of the multiplier's copies are looked at together, not mask by mask, and every rule looks at all of them:
`screen` keeps the share with the highest Dice between the judge's prediction and the image's mask (of equal Dice, the
first ids), `screen_min_dice` what reaches that Dice, `drop_copies` what the audit does not suspect. An image stays
where every rule asked for keeps it.

What that does to the arm: it holds fewer synthetic images than its multiplier says, more of them of masks that the
generator follows well. Its optimiser steps stay the same, so each image that is left, the real ones too, is seen more
often. No torch here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.stages.mix.params import TrainingSet
from pipeline.study import Params

RECORD = "screening.json"  # in the folder of the training set
DIGITS = 6  # of images.csv


@dataclass(frozen=True)
class Screened:
    """The images that are left and what screening.json tells of the others."""

    images: ImageSet
    record: dict[str, Any]


def screen(params: Params, name: str, images: ImageSet) -> Screened:
    """Screens the synthetic images of the training set `name`. Raises UserError where a table is missing or none stays.

    The record: what was asked, images before and after, dropped by each rule (an image may fall under several), the
    Dice of the least faithful image that the Dice rules keep, and the dropped images.
    """
    recipe = params.training_sets[name]
    dice = faithfulness(params, recipe, images) if recipe.by_dice else {}
    dropped = {rule: ids for rule, ids in _rules(params, recipe, images, dice) if ids is not None}
    gone = set().union(*dropped.values())
    kept = images.select(row for row in images if row["id"] not in gone)
    if not len(kept):
        counts = ", ".join(f"{rule} drops {len(ids)}" for rule, ids in dropped.items())
        raise UserError(
            f"training_sets.{name}: screening leaves none of {len(images)} images of {recipe.generator} ({counts});"
            " ask for less, or train the generator longer"
        )
    return Screened(kept, _record(name, recipe, images, dice, dropped))


def faithfulness(params: Params, recipe: TrainingSet, images: ImageSet) -> dict[str, float]:
    """Dice by id, as the stage score wrote it. Raises UserError where it did not."""
    path = paths.scores(params.study, str(recipe.generator)) / "images.csv"
    hint = f"put faithfulness into score.metrics and run the stage score for {recipe.generator}"
    return {name: float(value) for name, value in _column(path, "dice", images, hint).items()}


def suspects(params: Params, recipe: TrainingSet, images: ImageSet) -> set[str]:
    """Ids that the stage audit suspects to be copies of training images. Raises UserError where it has not run."""
    path = paths.audit(params.study, str(recipe.generator)) / "images.csv"
    found = _column(path, "suspect", images, f"run the stage audit for {recipe.generator}")
    return {name for name, value in found.items() if value == "1"}


def beyond_share(dice: Mapping[str, float], share: float) -> set[str]:
    """Ids outside the most faithful `share` of all, rounded down to whole images but at least one."""
    ranked = sorted(dice, key=lambda name: (-dice[name], name))
    return set(ranked[max(1, int(share * len(ranked) + 1e-9)) :])


def _rules(
    params: Params, recipe: TrainingSet, images: ImageSet, dice: Mapping[str, float]
) -> list[tuple[str, set[str] | None]]:
    """What each rule drops; None: it was not asked for."""
    least = recipe.screen_min_dice
    return [
        ("screen", None if recipe.screen is None else beyond_share(dice, recipe.screen)),
        ("screen_min_dice", None if least is None else {name for name, value in dice.items() if value < least}),
        ("drop_copies", suspects(params, recipe, images) if recipe.drop_copies else None),
    ]


def _record(
    name: str, recipe: TrainingSet, images: ImageSet, dice: Mapping[str, float], dropped: Mapping[str, set[str]]
) -> dict[str, Any]:
    gone = set().union(*dropped.values())
    unfaithful = set().union(*(ids for rule, ids in dropped.items() if rule != "drop_copies"))
    kept = [value for identity, value in dice.items() if identity not in gone]
    return {
        "training_set": name,
        "generator": recipe.generator,
        "asked": recipe.model_dump(include={"multiplier", "screen", "screen_min_dice", "drop_copies"}),
        "images": len(images),
        "kept": len(images) - len(gone),
        "dropped": {rule: len(ids) for rule, ids in dropped.items()},
        "dice_threshold": min((value for i, value in dice.items() if i not in unfaithful), default=None),
        "mean_dice": {"before": _mean(list(dice.values())), "after": _mean(kept)},
        "dropped_images": [
            {"id": i, "dice": dice.get(i), "rules": [rule for rule, ids in dropped.items() if i in ids]}
            for i in sorted(gone)
        ],
    }


def _mean(values: list[float]) -> float | None:
    return round(fmean(values), DIGITS) if values else None


def _column(path: Path, column: str, images: ImageSet, hint: str) -> dict[str, str]:
    """One column of a table of images by id, in the order of the images. Raises UserError naming what is missing."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; {hint}")
    files.check(path.parent)
    rows = tables.read_table(path)
    if rows and column not in rows[0]:
        raise UserError(f"{path} has no column {column}; {hint}")
    found = {row["id"]: row[column] for row in rows}
    if absent := [name for name in images.ids if not found.get(name)]:
        raise UserError(f"{path} says nothing of {absent[0]} ({len(absent)} of {len(images)} images); {hint}")
    return {name: found[name] for name in images.ids}
