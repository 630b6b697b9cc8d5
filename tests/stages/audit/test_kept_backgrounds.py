"""Sets that keep real backgrounds: the lending image is not reported as copied; drawn lesions meet the real ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import Sample
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.stages.audit import copy_search, drawn_lesions
from pipeline.stages.audit.output import image_rows, summary
from pipeline.stages.audit.training_images import TrainingImages
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.mask_sets import box

Pixels = NDArray[np.uint8]


def open_spaces(study: Params) -> FeatureCache:
    return copy_search.open_spaces(study.audit, study.score, study.seed, Runtime.alone(1))


def kept(name: str, **columns: Any) -> ImageSet:
    """Training images with nothing but their lesion drawn anew, or copies of another one, on a given background."""
    real = ImageSet.open(paths.real("toy"))
    drawn = []
    for sample in real.split("train").samples():
        image = np.where(
            sample.masks[0] > 0, 255 - np.asarray(sample.image, np.uint8), np.asarray(sample.image)
        ).astype(np.uint8)
        own = {"source_id": sample.id, "background_id": sample.id, "keep_background": "{}", "placed": "[]"}
        own |= {"copy": 0} | columns
        drawn.append((Sample(sample.id, image, sample.masks, "", "train", "x"), own))
    return ImageSet.create(paths.synthetic("toy", name), real.spec, drawn)


def found_in(study: Params, images: ImageSet) -> copy_search.Findings:
    return copy_search.find_copies(ImageSet.open(paths.real("toy")), images, open_spaces(study), study.audit, "kept")


def test_a_background_that_was_kept_is_no_copy(toy_study: Params) -> None:
    found = found_in(toy_study, kept("kept"))
    assert all(found.train.id(int(k)) != row["background_id"] for near in found.nearest.values()
               for k, row in zip(near.index, found.synthetic, strict=True))  # fmt: skip
    assert not found.suspect.all()
    assert summary(found, toy_study.audit)["kept_backgrounds"] == 8
    other = found_in(toy_study, kept("other", background_id="train_0"))  # of 7 images the background is another one
    pixels = other.nearest[copy_search.PIXELS].index
    nearest = {row["id"]: other.train.id(int(k)) for k, row in zip(pixels, other.synthetic, strict=True)}
    assert all(found == name for name, found in nearest.items() if name != "train_0")


def redrawn(name: str, change: Callable[[Pixels, Pixels, int], Pixels], **columns: Any) -> dict[str, Any]:
    """The record of lesions that `change` (image, mask, number) drew into training images with a wide lesion."""
    real = ImageSet.open(paths.real("toy"))
    rng = np.random.default_rng(0)
    spec, size = real.spec, real.spec.size
    mask = np.zeros((size, size), np.uint8)
    mask[8:24, 6:20] = 1
    pictures = {row["id"]: rng.integers(0, 256, (3, size, size)).astype(np.uint8) for row in real}
    pairs = [(Sample(row["id"], pictures[row["id"]], mask[None], "", row["split"], "x"), {}) for row in real]
    written = ImageSet.create(Path("lesions/real"), spec, pairs)
    drawn = []
    for number, row in enumerate(written.split("train")):
        own = {"source_id": row["id"], "background_id": row["id"], "keep_background": "{}", "placed": "[]", "copy": 0}
        image = change(pictures[row["id"]], mask, number)
        drawn.append((Sample(row["id"], image, mask[None], "", "train", "x"), own | columns))
    made = ImageSet.create(Path("lesions") / name, spec, drawn)
    study = parse(Params, TOY_STUDY)
    found = copy_search.find_copies(written, made, open_spaces(study), study.audit, "x")
    assert {row["lesion_nearest_to_own"] for row in image_rows(found)} <= {0, 1, ""}
    return summary(found, study.audit)["drawn_lesions"]


def test_lesions_that_repeat_the_real_ones_are_counted(toy_study: Params) -> None:
    def repeated(image: Pixels, mask: Pixels, number: int) -> Pixels:
        return np.where(mask > 0, np.clip(image.astype(int) * 0.8 + 20, 0, 255), image).astype(np.uint8)

    def fresh(image: Pixels, mask: Pixels, number: int) -> Pixels:
        new = np.random.default_rng(100 + number).integers(0, 256, image.shape)
        return np.where(mask > 0, new, image).astype(np.uint8)

    assert redrawn("repeated", repeated) == {"images": 8, "nearest_to_own": 8, "chance": 1 / 8}
    assert redrawn("fresh", fresh)["nearest_to_own"] <= 4
    assert redrawn("unknown", fresh, background_id="elsewhere")["images"] == 0
    shrunk = '[{"source_id": "train_0", "scale": 0.8, "shift": [1, 2]}]'
    assert redrawn("shrunk", fresh, placed=shrunk)["images"] == 0


def test_images_of_the_background_s_group_are_no_originals_either(toy_study: Params) -> None:
    real = ImageSet.open(paths.real("toy"))
    pairs = {row["id"]: f"patient_{k // 2}" for k, row in enumerate(real.split("train"))}
    ImageSet.finish(real.folder, real.spec, [row | {"group": pairs.get(row["id"], row["id"])} for row in real])
    images = kept("grouped")
    train = TrainingImages(ImageSet.open(paths.real("toy")).split("train"))
    assert [sorted(train.id(k) for k in left_out) for left_out in train.excluded(images)] == [
        sorted(name for name, group in pairs.items() if group == pairs[row["id"]]) for row in images
    ]
    rows = [row | {"group": "one"} for row in ImageSet.open(paths.real("toy"))]
    one = TrainingImages(ImageSet.finish(real.folder, real.spec, rows).split("train"))
    with pytest.raises(UserError, match="all training images belong to one group"):
        one.excluded(images)
    assert one.excluded(ImageSet.open(paths.synthetic("toy", "siamese"))) == []


def test_a_moved_lesion_is_compared_with_the_one_that_lent_its_mask(toy_study: Params) -> None:
    """Copied from its source to another place of another image, or drawn anew there."""
    spec, rng = ImageSet.open(paths.real("toy")).spec, np.random.default_rng(0)
    old = box(32, slice(8, 24), slice(2, 12))
    pictures = rng.integers(0, 256, (6, 3, 32, 32)).astype(np.uint8)
    pairs = [(Sample(f"t_{n}", picture, old[None], "", "train", "x"), {}) for n, picture in enumerate(pictures)]
    train = ImageSet.create(Path("moved/train"), spec, pairs)
    new = np.asarray(np.roll(old, 16, 1), np.uint8)
    drawn = []
    for number in range(6):
        source, copied = (number + 1) % 6, number < 3
        lesion = np.roll(pictures[source], 16, 2) if copied else rng.integers(0, 256, (3, 32, 32))
        image = np.where(new > 0, lesion, pictures[number]).astype(np.uint8)
        placed = json.dumps([{"source_id": f"t_{source}", "scale": 1.0, "shift": [0, 16]}])
        own = {"source_id": f"t_{source}", "background_id": f"t_{number}", "keep_background": "{}", "placed": placed}
        drawn.append((Sample(f"s_{number}", image, np.maximum(old, new)[None], "", "train", "x"), own | {"copy": 0}))
    made = ImageSet.create(Path("moved/made"), spec, drawn)
    found = drawn_lesions.compare(made, train, open_spaces(toy_study), copy_search.PIXELS)
    assert found is not None and found.repeats[:3] == (True, True, True)
    assert sum(bool(one) for one in found.repeats[3:]) < 3
