"""Stage mix: make training sets of real images and the first copies of one generator's images. No torch."""

import shutil
from collections.abc import Mapping
from typing import Any

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.data import pseudo_labels
from pipeline.data.image_set import ImageSet
from pipeline.data.limited import training_pairs
from pipeline.data.linking import link_files
from pipeline.data.splitting import RESERVE
from pipeline.stages.mix.leaks import check_leaks, check_limit
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.mix.relabelling import relabel
from pipeline.stages.mix.resampling import resampled
from pipeline.stages.mix.screening import RECORD, screen
from pipeline.study import Params

METHOD_VERSION = 1


def mix(params: Params, name: str) -> ImageSet:
    """Make the training set `name` of params.yaml and publish it. Raises UserError if it would leak held-out data.

    Screening, if the set asks for it, drops some of the synthetic images; screening.json tells of them, and of masks
    that were resampled, corrected or have ignored pixels.
    """
    real = ImageSet.open(paths.real(params.study))
    recipe = params.training_sets[name]
    where = f"training_sets.{name}"
    parts, record, predicted = real_parts(real, recipe, params.seed, where), None, None
    if recipe.unlabelled == "pseudo_labels" or (recipe.generator and params.generators[recipe.generator].pseudo_labels):
        pairs = pseudo_labels.with_training_pairs(params.study, f"{where}.unlabelled")
        predicted = pseudo_labels.pseudo_labelled(pairs)
    if recipe.unlabelled == "pseudo_labels" and predicted is not None:
        parts.append(predicted)
    if recipe.generator is None:
        check_leaks(parts, real, predicted)
        return _publish(parts, None, name, params.study)
    images = _images(params.study, name, recipe, real)
    check_limit(images, real, parts[0], recipe.pair_limit, f"training_sets.{name}")
    changed = relabel(params.study, name, recipe, images, real) if recipe.relabelled else None
    if recipe.chosen:
        screened = screen(params.study, name, recipe, images, changed)
        images, record = screened.images, screened.record
    check_leaks([*parts, images], real, predicted)
    if changed is None:
        return _publish([*parts, images], record, name, params.study)
    kept = set(images.ids)
    new = changed.images.select(row for row in changed.images if row["id"] in kept)
    published = _publish([*parts, new], record, name, params.study)
    shutil.rmtree(changed.images.folder)
    return published


def _images(study: str, name: str, recipe: TrainingSet, real: ImageSet) -> ImageSet:
    """Return the first copies of the masks of a generator, equally many of each or more of hard ones."""
    generator = str(recipe.generator)
    synthetic = ImageSet.open(paths.synthetic(study, generator))
    first = first_copies(synthetic, real, recipe.multiplier)
    return first if recipe.resample is None else resampled(study, name, generator, synthetic, recipe.multiplier)


def real_parts(real: ImageSet, recipe: TrainingSet, seed: int, where: str) -> list[ImageSet]:
    """Return the real images of a training set, `recipe.repeat` times; ids of repetitions end in _again<number>.

    `seed` is the study's, which decides about the pairs within a limit, and `where` the entry of params.yaml. Raises
    UserError if there is none, if the limit is larger than the split train, or if all pairs are requested and the split
    reserve is empty.
    """
    images = training_pairs(real, recipe.pair_limit, seed, where)
    if not len(images):
        raise UserError(f"{real.folder} holds no image of the split train; run the stage prepare again")
    if recipe.real == "all":
        if not len(real.split(RESERVE)):
            raise UserError(
                f"{real.folder} has no split {RESERVE}; real: all needs a data.train_limit below the number of"
                " training pairs"
            )
        images = real.select(row for row in real if row["split"] in ("train", RESERVE))
    return [images, *(_repetition(images, number) for number in range(1, recipe.repeat))]


def _repetition(images: ImageSet, number: int) -> ImageSet:
    return images.select({**row, "id": f"{row['id']}_again{number}"} for row in images)


def first_copies(synthetic: ImageSet, real: ImageSet, multiplier: int) -> ImageSet:
    """Return the first `multiplier` images of every mask. Raises UserError if there are fewer, or the specs differ."""
    if synthetic.spec != real.spec:
        raise UserError(
            f"{synthetic.folder} holds {synthetic.spec}, but {real.folder} holds {real.spec}; run generate again for"
            " this data set"
        )
    copies = 1 + max((row["copy"] for row in synthetic), default=-1)
    if multiplier > copies:
        raise UserError(
            f"{synthetic.folder} has {copies} copies of each mask, but multiplier is {multiplier}; generate more"
        )
    return synthetic.take(multiplier)


def _publish(parts: list[ImageSet], record: Mapping[str, Any] | None, name: str, study: str) -> ImageSet:
    work = paths.work("mix", files.fingerprint(METHOD_VERSION, name, [part.digest for part in parts]))
    target = paths.training_set(study, name)
    shutil.rmtree(work, ignore_errors=True)
    rows = [row for part in parts for row in link_files(part, work)]  # duplicate ids are reported below
    if len({row["id"] for row in rows}) < len(rows):
        raise UserError(f"{target.name}: a synthetic image has the id of a real one; generate again")
    if record is not None:
        files.write_json(work / RECORD, record)
    ImageSet.finish(work, parts[0].spec, rows)
    files.publish(work, target)
    shutil.rmtree(work)
    return ImageSet.open(target)
