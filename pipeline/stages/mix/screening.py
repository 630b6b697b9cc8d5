"""Screening of the synthetic images of a training set: keep faithful ones, drop suspected copies of training images.

All images of the first copies are ranked together, not mask by mask, and every rule applies to all of them: `screen`
keeps the share with the highest Dice between the judge's prediction and the mask (for equal Dice, the first ids),
`screen_min_dice` those with at least this Dice, `drop_copies` those that the audit does not suspect. An image is kept
if every requested rule keeps it. An image without a Dice (neither its mask nor the judge's prediction holds
foreground) is kept by the rules on Dice, is no part of the share, and is counted (`not_screened`).

Effect on the arm: it has fewer synthetic images than its multiplier says, more of them of masks that the generator
follows well. Its optimiser steps stay the same, so that each remaining image, real ones included, is seen more often.
No torch here.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.mix.relabelling import Relabelled
from pipeline.stages.mix.resampling import mask_of

RECORD = "screening.json"  # in the folder of the training set
DIGITS = 6  # of images.csv


@dataclass(frozen=True)
class Screened:
    """The images that are kept, and the content of screening.json."""

    images: ImageSet
    record: dict[str, Any]


def screen(study: str, name: str, recipe: TrainingSet, images: ImageSet, changed: Relabelled | None = None) -> Screened:
    """Screen the synthetic images of the training set `name`. Raises UserError if a table is missing or none is kept.

    The record holds the requested rules, the images before and after, those dropped by each rule (several may drop
    one image), the Dice of the least faithful image that the Dice rules keep, and the dropped images; of masks that
    were `changed` also what was done to those of the images that are kept.
    """
    dice = faithfulness(study, recipe, images) if recipe.by_dice else {}
    dropped = {rule: ids for rule, ids in _dropped_by_rule(study, recipe, images, dice, changed) if ids is not None}
    all_dropped = set().union(*dropped.values())
    kept = images.select(row for row in images if row["id"] not in all_dropped)
    if not len(kept):
        counts = ", ".join(f"{rule} drops {len(ids)}" for rule, ids in dropped.items())
        raise UserError(
            f"training_sets.{name}: screening leaves none of {len(images)} images of {recipe.generator} ({counts});"
            " ask for less, or train the generator longer"
        )
    record = _record(name, recipe, images, dice, dropped)
    if recipe.resample:
        copies = Counter(Counter(mask_of(row) for row in images).values())
        record["resampled"] = {str(number): copies[number] for number in sorted(copies)}  # masks by number of images
    return Screened(kept, record | (changed.record(recipe, kept.ids) if changed else {}))


def faithfulness(study: str, recipe: TrainingSet, images: ImageSet) -> dict[str, float]:
    """Return Dice by id from the stage score, of images that have one. Raises UserError if that has not run."""
    path = paths.scores(study, str(recipe.generator)) / "images.csv"
    hint = f"put faithfulness into score.metrics and run the stage score for {recipe.generator}"
    column = _column(path, "dice", images, hint, may_be_blank=True)
    return {name: float(value) for name, value in column.items() if value}


def suspects(study: str, recipe: TrainingSet, images: ImageSet) -> set[str]:
    """Return the ids of suspected copies from the stage audit. Raises UserError if that has not run."""
    path = paths.audit(study, str(recipe.generator)) / "images.csv"
    flags = _column(path, "suspect", images, f"run the stage audit for {recipe.generator}")
    return {name for name, value in flags.items() if value == "1"}


def beyond_share(dice: Mapping[str, float], share: float) -> set[str]:
    """Return the ids outside the most faithful `share` of all, rounded down to whole images but at least one."""
    ranked = sorted(dice, key=lambda name: (-dice[name], name))
    return set(ranked[max(1, int(share * len(ranked) + 1e-9)) :])


def _dropped_by_rule(
    study: str, recipe: TrainingSet, images: ImageSet, dice: Mapping[str, float], changed: Relabelled | None
) -> list[tuple[str, set[str] | None]]:
    """Return the ids that each rule drops; None for a rule that was not requested."""
    least, pixels = recipe.screen_min_dice, recipe.pixel_screen
    return [
        ("screen", None if recipe.share is None else beyond_share(dice, recipe.share)),
        ("pixels", changed.dropped(pixels.least_foreground) if changed and pixels else None),
        ("screen_min_dice", None if least is None else {name for name, value in dice.items() if value < least}),
        ("drop_copies", suspects(study, recipe, images) if recipe.drop_copies else None),
    ]


def _record(
    name: str, recipe: TrainingSet, images: ImageSet, dice: Mapping[str, float], dropped: Mapping[str, set[str]]
) -> dict[str, Any]:
    all_dropped = set().union(*dropped.values())
    unfaithful = set().union(*(ids for rule, ids in dropped.items() if rule in ("screen", "screen_min_dice")))
    asked = recipe.model_dump(include={"multiplier", "screen", "screen_min_dice", "drop_copies"})
    asked |= recipe.model_dump(include={"labels", "resample"}, exclude_none=True)
    kept = [value for identity, value in dice.items() if identity not in all_dropped]
    return {
        "training_set": name,
        "generator": recipe.generator,
        "asked": asked,
        "images": len(images),
        "kept": len(images) - len(all_dropped),
        **({"not_screened": len(images) - len(dice)} if recipe.by_dice else {}),
        "dropped": {rule: len(ids) for rule, ids in dropped.items()},
        "dice_threshold": min((value for i, value in dice.items() if i not in unfaithful), default=None),
        "mean_dice": {"before": _mean(list(dice.values())), "after": _mean(kept)},
        "dropped_images": [
            {"id": i, "dice": dice.get(i), "rules": [rule for rule, ids in dropped.items() if i in ids]}
            for i in sorted(all_dropped)
        ],
    }


def _mean(values: list[float]) -> float | None:
    return round(fmean(values), DIGITS) if values else None


def _column(path: Path, column: str, images: ImageSet, hint: str, *, may_be_blank: bool = False) -> dict[str, str]:
    """Return a column of a table of images by id, in the order of the images. Raises UserError on missing values."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; {hint}")
    files.check(path.parent)
    rows = tables.read_table(path)
    if rows and column not in rows[0]:
        raise UserError(f"{path} has no column {column}; {hint}")
    values = {row["id"]: row[column] for row in rows}
    if missing := [name for name in images.ids if name not in values or not (values[name] or may_be_blank)]:
        raise UserError(f"{path} says nothing of {missing[0]} ({len(missing)} of {len(images)} images); {hint}")
    return {name: values[name] for name in images.ids}
