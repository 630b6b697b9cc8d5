"""Training sets: real training images plus the first copies of one generator's images, if asked screened. No torch."""

import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.data import hashing, mask_hashes
from pipeline.data.image_set import ImageSet, Row, files_of
from pipeline.data.splitting import HELD_OUT, RESERVE
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.mix.screening import RECORD, screen
from pipeline.study import Params

METHOD_VERSION = 1
THEIRS = "of the validation or test split"


def mix(params: Params, name: str) -> ImageSet:
    """Makes the training set `name` of params.yaml and publishes it whole. Raises UserError where it would leak.

    Of the multiplier's copies, screening (where it is asked for) leaves some out and tells of it in screening.json.
    """
    real = ImageSet.open(paths.real(params.study))
    recipe = params.training_sets[name]
    parts, record = real_parts(real, recipe), None
    if recipe.generator is not None:
        synthetic = ImageSet.open(paths.synthetic(params.study, recipe.generator))
        parts.append(first_copies(synthetic, real, recipe.multiplier))
    if recipe.screened:
        screened = screen(params, name, parts[-1])
        parts[-1], record = screened.images, screened.record
    check_leaks(parts, real)
    mixed = files.fingerprint(METHOD_VERSION, name, [part.digest for part in parts])
    return _publish(parts, record, paths.work("mix", mixed), paths.training_set(params.study, name))


def real_parts(real: ImageSet, recipe: TrainingSet) -> list[ImageSet]:
    """The real images of a training set, `recipe.repeat` times; the ids of later times end in _again<number>.

    Raises UserError where there is none, or where all pairs are asked for and none lies in reserve.
    """
    chosen = real.split("train")
    if not len(chosen):
        raise UserError(f"{real.folder} holds no image of the split train; run the stage prepare again")
    if recipe.real == "all":
        if not len(real.split(RESERVE)):
            raise UserError(f"{real.folder} has no split {RESERVE}; real: all needs a data.train_limit below the pairs")
        chosen = real.select(row for row in real if row["split"] in ("train", RESERVE))
    return [chosen, *(_again(chosen, time) for time in range(1, recipe.repeat))]


def _again(images: ImageSet, time: int) -> ImageSet:
    return images.select({**row, "id": f"{row['id']}_again{time}"} for row in images)


def first_copies(synthetic: ImageSet, real: ImageSet, multiplier: int) -> ImageSet:
    """The first `multiplier` images of every mask. Raises UserError where there are fewer or another kind of images."""
    if synthetic.spec != real.spec:
        raise UserError(
            f"{synthetic.folder} holds {synthetic.spec}, {real.folder} {real.spec}; generate again for this data set"
        )
    copies = 1 + max((row["copy"] for row in synthetic), default=-1)
    if multiplier > copies:
        raise UserError(f"{synthetic.folder} has {copies} copies of a mask, multiplier is {multiplier}; generate more")
    return synthetic.take(multiplier)


def check_leaks(parts: Iterable[ImageSet], real: ImageSet) -> None:
    """Raises UserError naming ids where a part holds what belongs to validation or test, or may do so.

    That is: an image of theirs; an image made from the mask of one of theirs, turned or not; a mask of theirs (unless
    it is empty, or a real training image has the same mask too); an image that does not say which mask it follows. A
    mask of a bank or of a procedure has no training image, but the columns mask_id and transform.
    """
    held_out = [row for row in real if row["split"] in HELD_OUT]
    images, sources = {hashing.content_hash(real.image(row)) for row in held_out}, {row["id"] for row in held_out}
    known = {row["id"] for row in real if row["split"] not in HELD_OUT}
    masks = mask_hashes.held_out_digests(real)
    for part in parts:
        rows = track(part, "mix: looking for held-out images", len(part))
        shown = [row["id"] for row in rows if hashing.content_hash(part.image(row)) in images]
        _refuse(shown, part, f"are images {THEIRS}")  # by pixels: a synthetic PNG carries text too
        stolen = [row["id"] for row in part if row["source_id"] in sources]
        _refuse(stolen, part, f"are made from images {THEIRS}, or from masks of the same name")
        strange = [row["id"] for row in part if row["source_id"] not in known and not _says_its_mask(row)]
        _refuse(strange, part, "are not made from a real training image and name no other mask (mask_id, transform)")
        _refuse(_drawn(part, masks), part, f"have masks {THEIRS}")


def _says_its_mask(row: Row) -> bool:
    return bool(row["source_id"] and row.get("mask_id")) and row.get("transform") is not None


def _drawn(part: ImageSet, masks: Collection[str]) -> list[str]:
    """Ids of the rows with one of these masks; each file of a mask is decoded once, however many copies share it."""
    found: dict[str, bool] = {}
    for row in part:
        if row["mask_sha256"] not in found:
            found[row["mask_sha256"]] = mask_hashes.mask_digest(part.mask(row)) in masks
    return [row["id"] for row in part if found[row["mask_sha256"]]]


def _refuse(ids: list[str], part: ImageSet, fault: str) -> None:
    if ids:
        shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        raise UserError(f"{part.folder}: {shown} {fault}; a test after that is worthless. Make the set again")


def _publish(parts: list[ImageSet], record: Mapping[str, Any] | None, work: Path, target: Path) -> ImageSet:
    shutil.rmtree(work, ignore_errors=True)
    rows = [row for part in parts for row in _link(part, work)]
    if len({row["id"] for row in rows}) < len(rows):
        raise UserError(f"{target.name}: a synthetic image has the id of a real one; generate again")
    if record is not None:
        files.write_json(work / RECORD, record)
    ImageSet.finish(work, parts[0].spec, rows)
    files.publish(work, target)
    shutil.rmtree(work)
    return ImageSet.open(target)


def _link(part: ImageSet, folder: Path) -> list[Row]:
    for row in part:
        for name in files_of(row):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():  # two rows of one id are reported afterwards
                files.link_or_copy(part.folder / name, folder / name)
    return list(part)
