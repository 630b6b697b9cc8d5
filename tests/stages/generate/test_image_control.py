"""Images drawn with the training image of their mask as a second hint: what is shown, recorded, found and refused."""

import json
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.core import files, paths, plugins
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.moved_images import movable, moved_image, own_image
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.data.verification import verify
from pipeline.methods.generators._control import ControlledDiffusion
from pipeline.stages.audit import copy_search
from pipeline.stages.audit.audit import audit
from pipeline.stages.audit.output import image_rows, summary
from pipeline.stages.finetune import generator
from pipeline.stages.finetune.fingerprint import fingerprint
from pipeline.stages.generate import croissant, provenance
from pipeline.stages.generate import generate as generation
from pipeline.stages.mix.mix import mix
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.prepare.control import check_control
from pipeline.stages.prepare.validation import check_plugins
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.drawn_set import job, make, train
from tests.levels import bytes_apart
from tests.tiny_base import write_tiny_base

SHOWN = {"control": "mask_image"}
DATA = {**TOY_STUDY["data"], "train": 8, "val": 3, "test": 4}


def changed(entry: dict[str, Any] | None = None, method: str = "mask_image", **generate: Any) -> Params:
    """The toy study with 8 masks, 2 copies, and changes."""
    own = {"copies": 2, "method": method, "start": 0.3, **(entry or {})}
    study = {**TOY_STUDY, "data": DATA, "generators": {"drawn": own}, "training_sets": {"real": {}}}
    return parse(Params, {**study, "generate": {**TOY_STUDY["generate"], **generate}})


@pytest.fixture
def study(toy_study: Params) -> Params:
    """A study with an untrained base."""
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    return published(changed(SHOWN))


def published(params: Params) -> Params:
    """With a generator whose control is not zero, the hint's last layer included."""
    spec = ImageSet.open(paths.real("toy")).spec
    built = generator.build("toy", 0, "drawn", params.generators["drawn"], spec, Runtime.alone(1))
    assert isinstance(built, ControlledDiffusion)
    torch.manual_seed(2)
    for weight in built.network.parameters():
        if not weight.detach().any():
            torch.nn.init.normal_(weight, std=0.2)
    built.save(paths.generator("toy", "drawn"))
    return params


def paint_over(number: int) -> None:
    """Replace a training image by another picture; its mask stays."""
    real = ImageSet.open(paths.real("toy"))
    samples = [replace(one, image=255 - np.asarray(one.image)) if one.id == f"train_{number}" else one
               for one in real.samples()]  # fmt: skip
    shutil.rmtree(paths.real("toy"))
    ImageSet.create(paths.real("toy"), real.spec, ((sample, {}) for sample in samples))


@pytest.mark.parametrize("method", ["mask_image", "siamese"])
def test_the_hint_is_the_image_of_the_mask_that_is_drawn(study: Params, method: str) -> None:
    """Another picture of training image 3 changes the images that follow its mask, and no other one."""
    params = published(changed(SHOWN, method))
    before = make(params, "before")
    verify(before)
    paint_over(3)
    after = make(params, "after")
    apart = {
        one["id"]: bytes_apart(before.image(one), after.image(two)) for one, two in zip(before, after, strict=True)
    }
    moved = {name for name, distance in apart.items() if distance > 1}
    assert moved == {row["id"] for row in before if row["source_id"] == "train_3"} and len(moved) == 2
    assert all(row["control_image_id"] == row["source_id"] for row in before)


def test_without_the_option_the_images_are_those_of_the_masks(study: Params) -> None:
    plain, paint = make(changed(), "plain"), paint_over(3)
    assert paint is None and make(changed(), "again").digest == plain.digest
    assert not {"control", "image_weight", "control_image_id"} & plain.rows[0].keys()


@pytest.mark.parametrize("masks", ["random", "elastic", "real"])
def test_the_image_moves_with_its_mask(study: Params, masks: str) -> None:
    """A picture of the mask, moved as an image, is the moved mask."""
    params = changed({**SHOWN, "masks": masks, "count": 12})
    real, rows = train()
    moved = 0
    for mask in job(params).plan.masks:
        source = real.mask(rows[mask.source_id])
        picture = np.stack([source, source + 1, source * 7]).astype(np.uint8)
        found = moved_image(picture, masks, mask.transform)
        assert np.array_equal(found, np.stack([mask.pixels, mask.pixels + 1, mask.pixels * 7]))
        moved += not np.array_equal(mask.pixels, source)
    assert (moved > 6) == (masks != "real")
    made = make(changed({**SHOWN, "masks": masks, "count": 3, "copies": 1}))
    assert [row["control_image_id"] for row in made] == [row["source_id"] for row in made]


def test_masks_that_move_images() -> None:
    assert movable() == ("elastic", "random", "real")


@pytest.mark.parametrize("transform", ["{}", "[]", "no JSON", '{"flip_vertical": 1}'])
def test_a_transform_that_cannot_be_read_is_one_line(study: Params, transform: str) -> None:
    images, rows = train()
    row = {"id": "x", "source_id": "train_0", "masks": "random", "transform": transform}
    with pytest.raises(UserError, match="x: the column transform does not say how masks: random moved the mask"):
        own_image(row, rows, images)
    assert own_image({**row, "masks": "unknown"}, rows, images) is None


@pytest.mark.parametrize("batch_size", [1, 3])
def test_batch_size_changes_the_last_bits_at_most(study: Params, batch_size: int) -> None:
    two, other = make(changed(SHOWN), "two"), make(changed(SHOWN, batch_size=batch_size), "other")
    assert max(bytes_apart(two.image(one), other.image(again)) for one, again in zip(two, other, strict=True)) <= 1


def test_files_card_and_columns_say_which_image_was_shown(study: Params) -> None:
    made = make(changed({**SHOWN, "image_weight": 0.5}))
    row = made.rows[0]
    assert (row["control"], row["image_weight"]) == ("mask_image", 0.5)
    text = Image.open(made.folder / row["file_name"]).text  # type: ignore[attr-defined]
    assert text["Description"] == provenance.NOTICE_FROM_IMAGE
    assert json.loads(text["twinsynth"])["control_image_id"] == row["source_id"]
    body = (made.folder / "README.md").read_text()
    assert "made from a real training image" in body and "| image_weight | 0.5 |" in body
    told = files.read_json(made.folder / croissant.FILE)
    columns = {f["source"]["extract"]["column"] for f in told["recordSet"][0]["field"] if "column" in str(f)}
    assert columns == set(row)


@pytest.mark.parametrize(
    ("method", "own", "weight"),
    [
        ("mask_image", {}, 1.0),
        ("mask_image", {"w_i": 0.25}, 0.25),
        ("siamese", {}, 1.0),
        ("siamese", {"w_i": 0.5}, 0.5),
    ],
)
def test_the_weight_is_that_of_the_end_of_training(
    study: Params, method: str, own: dict[str, Any], weight: float
) -> None:
    assert job(changed({**SHOWN, **own}, method)).columns["image_weight"] == weight


def test_the_option_trains_nothing_again_and_each_value_draws_again(study: Params) -> None:
    real = ImageSet.open(paths.real("toy")).split("train")
    entries = [{}, SHOWN, {**SHOWN, "image_weight": 0.5}]
    assert len({fingerprint(changed(entry), "drawn", real) for entry in entries}) == 1
    assert len({job(changed(entry)).fingerprint for entry in entries}) == len(entries)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image_weight": 0.5}, "image_weight is 0.5, but only control: mask_image uses it"),
        ({**SHOWN, "image_weight": 0}, "generators.drawn.image_weight: Input should be greater than 0, found 0"),
        ({"control": "image"}, "generators.drawn.control: Input should be 'mask' or 'mask_image', found 'image'"),
        ({**SHOWN, "keep_background": {}}, "control: mask_image draws every pixel from noise, so keep_background has"),
        ({**SHOWN, "from_image": {"strength": 0.5}}, "draws every pixel from noise, so from_image has no place"),
    ],
)
def test_bad_values_are_one_line(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        changed(entry)
    assert message in str(caught.value) and str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("method", "masks", "message"),
    [
        ("controlnet", "real", "controlnet is not trained with the image as a hint, so mask_image cannot control it"),
        (
            "siamese",
            "shapes",
            "but masks: shapes have none; set control: mask, or masks to one of elastic, random, real",
        ),
        ("mask_image", "several", "generators.drawn.control: mask_image needs the training image of every mask"),
        ("siamese", "bank", "masks: bank have none"),
    ],
)
def test_what_has_no_image_is_refused_before_anything_is_trained(method: str, masks: str, message: str) -> None:
    keys = {"mask_params": {"folder": "anywhere"}} if masks == "bank" else {}
    params = changed({**SHOWN, "masks": masks, **keys}, method)
    for check in (lambda: check_plugins(params), lambda: check_control("drawn", params.generators["drawn"])):
        with pytest.raises(UserError) as caught:
            check()
        assert message in str(caught.value) and str(caught.value).count("\n") == 0
    with pytest.raises(
        UserError, match="take one of mask_image, siamese" if method == "controlnet" else "control: mask"
    ):
        check_plugins(params)


def test_copy_paste_sees_no_image() -> None:
    entry = {"copy_paste": {"copies": 1, **SHOWN}}
    study = {**TOY_STUDY, "data": DATA, "generators": entry, "training_sets": {"real": {}}}
    with pytest.raises(UserError, match="copy_paste is not trained with the image as a hint"):
        check_plugins(parse(Params, study))


def repeated(masks: str, spec: DatasetSpec) -> ImageSet:
    """A set as of a generator that returns the image that it is shown, and for every other mask a training image."""
    params = changed({**SHOWN, "masks": masks, "count": 8, "copies": 1})
    real, rows = train()
    made = []
    for number, mask in enumerate(job(params).plan.masks):
        shown = moved_image(real.picture(rows[mask.source_id]), masks, mask.transform)
        other = real.picture(real.rows[(number + 3) % len(real)])
        columns = {"masks": masks, "transform": json.dumps(dict(mask.transform)), "copy": 0}
        sample = Sample(mask.id, other if number % 2 else shown, mask.pixels[None], mask.prompt, "train", mask.source)
        made.append(
            (sample, {"source_id": mask.source_id, "mask_id": mask.id, "control_image_id": mask.source_id, **columns})
        )
    return ImageSet.create(paths.synthetic("toy", f"repeated_{masks}"), spec, made)


@pytest.mark.parametrize("masks", ["real", "random", "elastic"])
def test_the_audit_shows_near_copies_moved_or_not(study: Params, masks: str, spec: DatasetSpec) -> None:
    made, real = repeated(masks, spec), ImageSet.open(paths.real("toy"))
    cache = copy_search.open_spaces(study.audit, study.score, study.seed, Runtime.alone(1))
    found = copy_search.find_copies(real, made, cache, study.audit, "repeated")
    record = summary(found, study.audit)["own_images"]
    assert (record["images"], record["near_copies"]) == (8, 4)
    distances = {row["id"]: row["distance_own_image"] for row in image_rows(found)}
    assert [distances[row["id"]] < 1e-3 for row in made] == [True, False] * 4
    assert record["mean_distance"] == pytest.approx(np.mean(list(distances.values())), abs=1e-5)


def test_masks_of_no_training_image_have_no_own_image(study: Params) -> None:
    made = make(changed({"masks": "shapes", "count": 4}))
    cache = copy_search.open_spaces(study.audit, study.score, study.seed, Runtime.alone(1))
    found = copy_search.find_copies(ImageSet.open(paths.real("toy")), made, cache, study.audit, "shapes")
    assert found.own is None and "own_images" not in summary(found, study.audit)
    assert "distance_own_image" not in image_rows(found)[0]


def test_what_is_published_passes_audit_and_mix(study: Params) -> None:
    params = changed(SHOWN).model_copy(
        update={"training_sets": {"shown": TrainingSet(generator="drawn", multiplier=2)}}
    )
    generation.generate(params, "drawn")
    audit(params, "drawn")
    assert files.read_json(paths.audit("toy", "drawn") / "audit.json")["own_images"]["images"] == 16
    mixed = mix(params, "shown")
    assert sum("control_image_id" in row for row in mixed) == 16


def test_no_method_has_a_key_of_these_names() -> None:
    for name in plugins.names("generators"):
        assert not {"control", "image_weight"} & plugins.params_class("generators", name).model_fields.keys()
