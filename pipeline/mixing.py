"""Training sets: the real training images plus the first copies of one generator's images. No torch here."""

import shutil
from collections.abc import Iterable
from pathlib import Path

from pipeline import files, paths
from pipeline.data.image_set import ImageSet, Row
from pipeline.errors import UserError
from pipeline.params import Params

METHOD_VERSION = 1


def mix(params: Params, name: str) -> ImageSet:
    """Makes the training set `name` of params.yaml and publishes it whole. Raises UserError where it would leak."""
    real = ImageSet.open(paths.real(params.study))
    parts = [real.split("train")]
    recipe = params.training_sets[name]
    if recipe.generator is not None:
        synthetic = ImageSet.open(paths.synthetic(params.study, recipe.generator))
        parts.append(first_copies(synthetic, real, recipe.multiplier))
    check_leaks(parts, real)
    mixed = files.fingerprint(METHOD_VERSION, name, [part.digest for part in parts])
    return _publish(parts, paths.work("mix", mixed), paths.training_set(params.study, name))


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
    """Raises UserError naming ids where a part holds what belongs to validation or test.

    That is: an image of theirs; a mask of theirs (unless it is empty, or a real training image has the same mask too);
    an image made from one that is no training image.
    """
    train, held_out = real.split("train"), [row for row in real if row["split"] != "train"]
    images = {row["sha256"] for row in held_out}
    masks = {row["mask_sha256"] for row in held_out} - {row["mask_sha256"] for row in train}
    sources = set(train.ids)
    for part in parts:
        strange = [row["id"] for row in part if row["source_id"] not in sources]
        _refuse(strange, part, "are not made from a real training image")
        seen = [row["id"] for row in part if row["sha256"] in images]
        _refuse(seen, part, "are images of the validation or test split")
        drawn = [row["id"] for row in part if row["mask_sha256"] in masks and part.mask(row).any()]
        _refuse(drawn, part, "have masks of the validation or test split")


def _refuse(ids: list[str], part: ImageSet, fault: str) -> None:
    if ids:
        shown = ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
        raise UserError(f"{part.folder}: {shown} {fault}; a test after that is worthless. Make the set again")


def _publish(parts: list[ImageSet], work: Path, target: Path) -> ImageSet:
    shutil.rmtree(work, ignore_errors=True)
    rows = [row for part in parts for row in _link(part, work)]
    if len({row["id"] for row in rows}) < len(rows):
        raise UserError(f"{target.name}: a synthetic image has the id of a real one; generate again")
    ImageSet.finish(work, parts[0].spec, rows)
    files.publish(work, target)
    shutil.rmtree(work)
    return ImageSet.open(target)


def _link(part: ImageSet, folder: Path) -> list[Row]:
    for row in part:
        for name in (row["file_name"], row["mask"]):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if not (folder / name).exists():  # two rows of one id are reported afterwards
                files.link_or_copy(part.folder / name, folder / name)
    return list(part)
