"""Masks of synthetic images, corrected by the judge and with its doubts ignored, in the training set's copy. No torch.

`labels: corrected` replaces the mask by the judge's class where its probability is high enough. `screen: {pixels: m}`
then ignores the pixels on which the judge's cross-entropy exceeds m times its mean on real training pixels of their
class (FreeMask, Yang et al. 2023, with m = 1.25). Both touch only pixels that were drawn: of an image that keeps a real
background the lesion with its margin, of any other the whole. The generator's set stays as it is.
"""

import json
import math
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core import files, paths, tables
from pipeline.core.contracts import IGNORED
from pipeline.core.errors import UserError
from pipeline.data import judge_maps, shards
from pipeline.data.holes import Region, hole_of
from pipeline.data.image_set import ImageSet, Row, png
from pipeline.data.judge_maps import Levels
from pipeline.data.labels import IGNORED_PIXELS
from pipeline.data.lenders import background_of
from pipeline.stages.mix.params import TrainingSet

VERSION = 1  # raised when the same maps give other masks
FOLDER = "judge_maps"  # in the folder of the scores
CORRECTED_PIXELS = "corrected_pixels"  # column: how many pixels of a mask the judge changed
Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Changes:
    """What was done to one mask: pixels per class before ignoring, those ignored, and those that were corrected."""

    pixels: tuple[int, ...]
    ignored: tuple[int, ...]
    corrected: int

    def leaves_too_little(self, least: float) -> bool:
        """Return whether less than this share of the foreground is left, or no pixel at all."""
        lesion, lost = sum(self.pixels[1:]), sum(self.ignored[1:])
        return lesion - lost < least * lesion or self.ignored == self.pixels


@dataclass(frozen=True)
class Relabelled:
    """The images with their new masks, what was done to each by its id, and the limits of the classes."""

    images: ImageSet
    changes: Mapping[str, Changes]
    limits: Mapping[int, float]

    def dropped(self, least: float) -> set[str]:
        """Return the ids of images with less than this share of their foreground left, or without any pixel."""
        return {name for name, change in self.changes.items() if change.leaves_too_little(least)}

    def record(self, recipe: TrainingSet, kept: Collection[str]) -> dict[str, Any]:
        """Return what screening.json says of the images that are kept: pixels per class, corrected ones."""
        done = [change for name, change in self.changes.items() if name in kept]
        told: dict[str, Any] = {}
        if recipe.pixel_screen:
            told["pixels"] = [
                {
                    "class": label,
                    "limit": limit if math.isfinite(limit) else None,
                    "pixels": sum(one.pixels[label] for one in done),
                    "ignored": sum(one.ignored[label] for one in done),
                }
                for label, limit in self.limits.items()
            ]
        if recipe.labels:
            changed = [one.corrected for one in done if one.corrected]
            told["corrected"] = {"images": len(changed), "pixels": sum(changed)}
        return told


@dataclass(frozen=True)
class Judgement:
    """The judge's maps of a generator's images, and the cross-entropy beyond which a pixel is ignored."""

    folder: Path
    maps: Mapping[str, Row]  # file and hash by the image's id
    limits: Mapping[int, float]  # by class; none: no pixel is ignored

    @classmethod
    def of(cls, study: str, name: str, recipe: TrainingSet) -> "Judgement":
        """Read the tables that the stage score has published. Raises UserError where it has not."""
        folder = paths.scores(study, str(recipe.generator)) / FOLDER
        where = f"training_sets.{name}.{recipe.judge_rules[0]}"
        if not (folder / "maps.csv").is_file() or not (rows := tables.read_table(folder / "maps.csv")):
            raise UserError(
                f"{where}: {folder} holds no map of the judge; set score.judge_maps: true and run the stage score for"
                f" {recipe.generator}"
            )
        files.check(folder.parent)
        classes = tables.read_table(folder / "classes.csv")
        return cls(folder, {row["id"]: row for row in rows}, _limits(recipe, classes))

    def levels(self, row: Row, num_classes: int) -> Levels:
        """Return the judge's log-odds of an image. Raises UserError where its map is missing or damaged."""
        found = self.maps.get(row["id"])
        path = self.folder / (found["file"] if found else f"maps/{row['id']}.png")
        if found is None or not path.is_file() or files.sha256(path) != found["sha256"]:
            raise UserError(f"{path} is missing or not as it was published; run the stage score for {row['generator']}")
        return judge_maps.read(path, num_classes)


def _limits(recipe: TrainingSet, classes: list[dict[str, str]]) -> dict[int, float]:
    screen = recipe.pixel_screen
    if screen is None:
        return {}
    limits = {}
    for row in classes:
        label, mean = int(row["class"]), float(row["cross_entropy"] or "inf")
        spared = label == 0 and screen.background == "quantile"
        limits[label] = float(row["quantile_99"] or "inf") if spared else screen.pixels * mean
    return limits


def relabel(study: str, name: str, recipe: TrainingSet, images: ImageSet, real: ImageSet) -> Relabelled:
    """Return the images of the training set `name` with new masks, in a folder of work.

    Raises UserError where the stage score has not published the judge's maps, or they are damaged.
    """
    judgement = Judgement.of(study, name, recipe)
    inputs = (judgement.limits, [judgement.maps.get(row["id"]) for row in images])
    work = paths.work("relabelled", files.fingerprint(VERSION, recipe.labels, *inputs, images.digest, real.digest))
    shutil.rmtree(work, ignore_errors=True)
    backgrounds = {row["id"]: row for row in real}
    rows, changes = [], {}
    for row in images:
        levels, mask = judgement.levels(row, images.spec.num_classes), images.mask(row)
        drawn = drawn_region(row, mask, real, backgrounds)
        corrected = mask if recipe.labels is None else correct(mask, levels, drawn, recipe.labels.corrected)
        new = ignore(corrected, levels, drawn, judgement.limits) if judgement.limits else corrected
        changes[row["id"]] = _changes(mask, corrected, new, images.spec.num_classes)
        rows.append(_write(images, row, new, changes[row["id"]], recipe, work))
    return Relabelled(ImageSet.finish(work, images.spec, rows), changes, judgement.limits)


def drawn_region(row: Row, mask: Mask, real: ImageSet, backgrounds: Mapping[str, Row]) -> Region:
    """Return the pixels [H, W] that were drawn: all, or with a kept background the new lesions and their margin."""
    if "keep_background" not in row:
        return np.ones(mask.shape, np.bool_)
    lesions = mask > 0
    if json.loads(row["placed"]):  # then the background shows lesions of its own, which stay as they are
        lesions &= real.mask(backgrounds[str(background_of(row))]) == 0
    return hole_of(lesions, json.loads(row["keep_background"])["margin"])


def correct(mask: Mask, levels: Levels, drawn: Region, confidence: float) -> Mask:
    """Return the mask with the judge's class in drawn pixels where its probability reaches `confidence`."""
    sure = judge_maps.probabilities_of(levels.max(0)) >= confidence
    return np.where(drawn & sure, levels.argmax(0), mask).astype(np.uint8)


def ignore(mask: Mask, levels: Levels, drawn: Region, limits: Mapping[int, float]) -> Mask:
    """Return the mask with IGNORED in drawn pixels whose cross-entropy exceeds the limit of their class."""
    losses = judge_maps.cross_entropies()[judge_maps.of_labels(levels, mask)]
    allowed = np.array([limits[label] for label in range(len(levels))])[mask]
    return np.where(drawn & (losses > allowed), IGNORED, mask).astype(np.uint8)


def _changes(before: Mask, corrected: Mask, after: Mask, num_classes: int) -> Changes:
    ignored = corrected[after == IGNORED]
    pixels, lost = (tuple(np.bincount(one.ravel(), minlength=num_classes).tolist()) for one in (corrected, ignored))
    return Changes(pixels, lost, int((before != corrected).sum()))


def _write(images: ImageSet, row: Row, mask: Mask, change: Changes, recipe: TrainingSet, work: Path) -> Row:
    """Write the new mask beside a link to the image; return the row, which says what was done to it."""
    name = f"masks/{row['id']}.png"
    columns = {IGNORED_PIXELS: sum(change.ignored)} if recipe.pixel_screen else {}
    columns |= {CORRECTED_PIXELS: change.corrected} if recipe.labels else {}
    files.write_bytes(work / name, png(mask, {"Description": _description(columns)}))
    stored = shards.stored_path(row, "file_name")
    (work / stored).parent.mkdir(parents=True, exist_ok=True)
    if not (work / stored).exists():  # of a shard, an earlier row has made the link
        files.link_or_copy(images.folder / stored, work / stored)
    return {**shards.outside(row, "mask"), "mask": name, "mask_sha256": files.sha256(work / name), **columns}


def _description(columns: Mapping[str, int]) -> str:
    told = {CORRECTED_PIXELS: "corrected", IGNORED_PIXELS: f"ignored ({IGNORED})"}
    done = " and ".join(f"{count} {told[key]}" for key, count in columns.items())
    return f"Label map of a synthetic image; pixels changed by the judge of the study: {done}."
