"""Training sets: what lies in them, and what must never."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet, Row, write_pair
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.stages.mix.mix import mix
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY


def synthetic() -> ImageSet:
    return ImageSet.open(paths.synthetic("toy", "siamese"))


def rewrite(images: ImageSet, change: Callable[[Row], Row]) -> None:
    ImageSet.finish(images.folder, images.spec, [change(row) for row in images])


def test_real_alone_holds_the_training_images_and_nothing_else(toy_study: Params) -> None:
    assert mix(toy_study, "real").ids == [f"train_{n}" for n in range(8)]


def test_x1_lies_inside_x2(toy_study: Params) -> None:
    once, twice = mix(toy_study, "siamese_x1"), mix(toy_study, "siamese_x2")
    assert (len(once), len(twice)) == (16, 24)
    assert set(once.ids) < set(twice.ids)
    assert {row["copy"] for row in once if row["synthetic"]} == {0}
    assert {row["split"] for row in twice} == {"train"}


def test_files_are_those_of_the_parts(toy_study: Params) -> None:
    mixed = mix(toy_study, "siamese_x2")
    assert all(files.sha256(mixed.folder / row["file_name"]) == row["sha256"] for row in mixed)
    assert all(files.sha256(mixed.folder / row["mask"]) == row["mask_sha256"] for row in mixed)
    assert len(list((mixed.folder / "images").iterdir())) == 24


def test_the_same_twice(toy_study: Params) -> None:
    first = files.tree_sha256(mix(toy_study, "siamese_x2").folder)
    assert files.tree_sha256(mix(toy_study, "siamese_x2").folder) == first


def test_a_test_image_among_the_synthetic_ones_is_refused_by_name(toy_study: Params) -> None:
    """Also where its file differs, because a synthetic PNG carries text."""
    real, images = ImageSet.open(paths.real("toy")), synthetic()
    pixels = np.moveaxis(real.image(real.split("test").rows[0]), 0, -1)
    told = PngInfo()
    told.add_text("twinsynth", "made up")
    Image.fromarray(pixels).save(images.folder / "images" / "train_3_c0.png", pnginfo=told)
    own = {"train_3_c0": {"sha256": files.sha256(images.folder / "images" / "train_3_c0.png")}}
    ImageSet.finish(images.folder, images.spec, [row | own.get(row["id"], {}) for row in images])
    with pytest.raises(UserError, match=r"train_3_c0 are images of the validation or test split"):
        mix(toy_study, "siamese_x1")
    assert not paths.training_set("toy", "siamese_x1").exists()


def test_the_mask_of_a_validation_image_is_refused(toy_study: Params) -> None:
    real, images = ImageSet.open(paths.real("toy")), synthetic()
    held_out = real.sample(real.split("val").rows[1])
    row = next(row for row in images if row["id"] == "train_5_c1")
    forged = images.sample(row)
    about = {key: row[key] for key in ("source_id", "copy", "generator", "synthetic")}
    leaked = write_pair(images.folder, type(forged)(**(vars(forged) | {"masks": held_out.masks})), about)
    rewrite(images, lambda row: leaked if row["id"] == leaked["id"] else row)
    mix(toy_study, "siamese_x1")  # copy 1 is not in it
    with pytest.raises(UserError, match=r"train_5_c1 have masks of the validation or test split"):
        mix(toy_study, "siamese_x2")


def test_an_empty_mask_is_no_leak(toy_study: Params) -> None:
    real, images = ImageSet.open(paths.real("toy")), synthetic()
    for folder, wanted in ((real, "test_0"), (images, "train_1_c0")):
        row = next(row for row in folder if row["id"] == wanted)
        sample = folder.sample(row)
        emptied = type(sample)(**(vars(sample) | {"masks": 0 * sample.masks}))
        about = {key: row[key] for key in ("source_id", "copy", "generator", "synthetic")}
        written = write_pair(folder.folder, emptied, about)
        rewrite(folder, lambda row, written=written: written if row["id"] == written["id"] else row)
    assert len(mix(toy_study, "siamese_x1")) == 16


def test_an_image_made_from_a_test_image_is_refused(toy_study: Params) -> None:
    rewrite(synthetic(), lambda row: row | ({"source_id": "test_0"} if row["id"] == "train_0_c0" else {}))
    with pytest.raises(UserError, match=r"train_0_c0 are made from images of the validation or test"):
        mix(toy_study, "siamese_x1")


def test_a_turned_mask_of_a_test_image_is_refused_by_its_source(toy_study: Params) -> None:
    turned = {"source_id": "test_0", "mask_id": "test_0_flip", "transform": '{"flip_vertical": true}'}
    rewrite(synthetic(), lambda row: row | (turned if row["id"] == "train_0_c0" else {}))
    with pytest.raises(UserError, match=r"train_0_c0 are made from images of the validation or test"):
        mix(toy_study, "siamese_x1")


def test_masks_of_a_bank_or_a_procedure_are_welcome_if_they_are_named(toy_study: Params) -> None:
    named = {"source_id": "shapes", "mask_id": "shape_0", "transform": "{}"}
    rewrite(synthetic(), lambda row: row | (named if row["id"] == "train_0_c0" else {}))
    mixed = mix(toy_study, "siamese_x1")
    assert [row["source_id"] for row in mixed if row["id"] == "train_0_c0"] == ["shapes"]
    for missing in ("mask_id", "transform"):
        rewrite(synthetic(), lambda row, key=missing: row | ({key: None} if row["id"] == "train_0_c0" else {}))
        with pytest.raises(UserError, match=r"train_0_c0 are not made from .* name no other mask \(mask_id, transform"):
            mix(toy_study, "siamese_x1")
        rewrite(synthetic(), lambda row: row | (named if row["id"] == "train_0_c0" else {}))


def test_images_drawn_with_a_held_out_image_as_a_hint_are_refused(toy_study: Params) -> None:
    for name, message in (("test_1", "were drawn with one as a hint"), ("x", r"\(control_image_id\) that is no real")):
        shown = {"control_image_id": name}
        rewrite(synthetic(), lambda row, new=shown: row | (new if row["id"] == "train_0_c0" else {}))
        with pytest.raises(UserError, match=rf"train_0_c0 .*{message}"):
            mix(toy_study, "siamese_x1")
    rewrite(synthetic(), lambda row: row | ({"control_image_id": "train_0"} if row["id"] == "train_0_c0" else {}))
    assert len(mix(toy_study, "siamese_x1")) == 16


def test_pixels_that_a_held_out_image_lent_are_refused(toy_study: Params) -> None:
    lent = {"background_id": "test_1", "placed": "[]", "keep_background": "{}"}
    placed = lent | {"background_id": "train_1", "placed": '[{"source_id": "val_0", "shift": [1, 2]}]'}
    for columns in (lent, placed):
        rewrite(synthetic(), lambda row, new=columns: row | (new if row["id"] == "train_0_c0" else {}))
        with pytest.raises(UserError, match=r"train_0_c0 hold pixels or masks of images of the validation or test"):
            mix(toy_study, "siamese_x1")
    foreign = lent | {"background_id": "elsewhere"}
    rewrite(synthetic(), lambda row: row | (foreign if row["id"] == "train_0_c0" else {}))
    with pytest.raises(UserError, match=r"train_0_c0 hold pixels of an image \(background_id\) that is no real"):
        mix(toy_study, "siamese_x1")
    fine = placed | {"placed": '[{"source_id": "train_2", "shift": [1, 2]}]'}
    rewrite(synthetic(), lambda row: row | (fine if row["id"] == "train_0_c0" else {}))
    assert len(mix(toy_study, "siamese_x1")) == 16


def test_a_mask_of_a_bank_that_is_one_of_the_test_split_is_refused_however_it_was_compressed(toy_study: Params) -> None:
    real, images = ImageSet.open(paths.real("toy")), synthetic()
    stolen = real.mask(real.split("test").rows[2])
    path = images.folder / "masks" / "train_0_c0.png"
    Image.fromarray(stolen).save(path, compress_level=0)  # other bytes, the same pixels
    named = {"source_id": "mine", "mask_id": "mine", "transform": "{}", "mask_sha256": files.sha256(path)}
    assert named["mask_sha256"] not in {row["mask_sha256"] for row in real}
    rewrite(images, lambda row: row | (named if row["id"] == "train_0_c0" else {}))
    with pytest.raises(UserError, match=r"train_0_c0 have masks of the validation or test split"):
        mix(toy_study, "siamese_x1")


def test_more_copies_than_there_are_is_refused(toy_study: Params) -> None:
    once = synthetic().take(1)
    ImageSet.finish(once.folder, once.spec, once.rows)
    with pytest.raises(UserError, match="has 1 copies of each mask, but multiplier is 2"):
        mix(toy_study, "siamese_x2")


def test_a_set_without_training_images_is_refused(toy_study: Params) -> None:
    real = ImageSet.open(paths.real("toy"))
    ImageSet.finish(real.folder, real.spec, [row for row in real if row["split"] != "train"])
    with pytest.raises(UserError, match="holds no image of the split train; run the stage prepare again"):
        mix(toy_study, "real")


def test_images_of_another_size_are_refused(toy_study: Params) -> None:
    images = synthetic()
    ImageSet.finish(images.folder, images.spec.model_copy(update={"size": 64}), images.rows)
    with pytest.raises(UserError, match="generate again for this data set"):
        mix(toy_study, "siamese_x1")


def test_mixing_does_not_load_torch() -> None:
    program = "import sys, stages.mix, pipeline.stages.mix.mix; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False).returncode == 0


def test_all_raters_masks_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[0, :4], masks[1, :2] = 1, 1
    spec = DatasetSpec(name="rated", size=8, channels=1, raters=3)
    samples = [Sample(f"c{n}", np.full((1, 8, 8), n, np.uint8), masks, "", "train") for n in range(3)]
    ImageSet.create(paths.real("toy"), spec, ((sample, {}) for sample in samples))
    mixed = mix(parse(Params, TOY_STUDY | {"training_sets": {"real": {}, "twice": {"repeat": 2}}}), "twice")
    assert len(mixed) == 6
    assert all(mixed.masks(row).sum((1, 2)).tolist() == [32, 16, 0] for row in mixed)
