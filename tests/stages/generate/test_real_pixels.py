"""Sets that keep real pixels: bytes outside the hole, labels, provenance; nothing is trained again for them."""

import json
import shutil
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core import files, paths, seeding
from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.holes import hole_of
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.data.verification import verify
from pipeline.stages.audit.audit import audit
from pipeline.stages.finetune.fingerprint import fingerprint
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.generate import croissant, provenance, real_pixels
from pipeline.stages.generate import generate as generation
from pipeline.stages.generate.real_pixels import Backgrounds
from pipeline.stages.mix.mix import mix
from pipeline.stages.mix.params import TrainingSet
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.drawn_set import job, make, publish, train
from tests.mask_sets import box
from tests.tiny_base import write_tiny_base

MARGIN = 0.05
METHODS = ("siamese", "adc", "controlnet", "mask_image", "t2i_adapter")


def changed(entry: dict[str, Any] | None = None, method: str = "siamese", **generate: Any) -> Params:
    """The toy study with 8 masks, 2 copies, and changes."""
    start = {} if method == "t2i_adapter" else {"start": 0.1}
    own = {"copies": 2, "method": method, **start, **(entry or {})}
    study = {**TOY_STUDY, "generators": {"drawn": own}, "training_sets": {"real": {}}}
    return parse(Params, {**study, "generate": {**TOY_STUDY["generate"], **generate}})


def own(**more: Any) -> dict[str, Any]:
    return {"keep_background": {"margin": MARGIN, **more}}


def add(**more: Any) -> dict[str, Any]:
    return own(placement="add", **more)


def small_lesions(spec: DatasetSpec) -> Iterator[tuple[Sample, Row]]:
    """Eight training, three validation and four test images with a small square each."""
    for split, count in {"train": 8, "val": 3, "test": 4}.items():
        for number in range(count):
            rng = seeding.numpy_rng("small", split, number)
            image = rng.integers(40, 90, (3, spec.size, spec.size)).astype(np.uint8)
            top, left, side = (int(rng.integers(*limits)) for limits in ((2, 24), (2, 24), (3, 7)))
            mask = box(spec.size, slice(top, top + side), slice(left, left + side))
            image[0] += 100 * mask
            yield Sample(f"{split}_{number}", image, mask[None], "A photo of a blob.", split, "small"), {}


@pytest.fixture
def study(toy_study: Params, spec: DatasetSpec) -> Params:
    """A study of small lesions with an untrained base and a generator whose control is not zero."""
    shutil.rmtree(paths.real("toy"))
    ImageSet.create(paths.real("toy"), spec, small_lesions(spec))
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    return publish(changed())


@pytest.mark.parametrize("method", METHODS)
def test_an_own_place_keeps_mask_and_every_byte_around_the_lesion(study: Params, method: str) -> None:
    made = make(publish(changed(own(), method)))
    real, rows = train()
    assert len(made) == 16
    for row in made:
        source = rows[row["background_id"]]
        assert row["background_id"] == row["source_id"] and row["placed"] == "[]"
        assert row["mask_sha256"] == source["mask_sha256"]
        hole = hole_of(made.mask(row) > 0, MARGIN)
        differs = (made.image(row) != real.image(source)).any(0)
        assert not differs[~hole].any() and differs[made.mask(row) > 0].mean() > 0.5
    verify(made)


def test_copies_of_a_mask_differ_in_the_lesion(study: Params) -> None:
    made = make(changed(own()))
    first, second = ([row for row in made if row["copy"] == copy] for copy in (0, 1))
    for one, two in zip(first, second, strict=True):
        assert one["background_id"] == two["background_id"]
        assert (made.image(one) != made.image(two)).any()


@pytest.mark.parametrize("lesions", [1, 2])
def test_added_lesions_lie_beside_the_old_ones_of_another_image(study: Params, lesions: int) -> None:
    made = make(changed(add(lesions=lesions)))
    real, rows = train()
    for row in made:
        source, label = rows[row["background_id"]], made.mask(row)
        old = real.mask(source) > 0
        new = (label > 0) & ~old
        assert row["background_id"] != row["source_id"]
        assert (label[old] == real.mask(source)[old]).all()  # old lesions stay in the label
        placed = json.loads(row["placed"])
        assert len(placed) == lesions and placed[0]["source_id"] == row["source_id"]
        assert new.sum() == sum((real.mask(rows[one["source_id"]]) > 0).sum() for one in placed)
        differs = (made.image(row) != real.image(source)).any(0)
        assert not differs[~hole_of(new, MARGIN)].any() and differs[new].mean() > 0.5
    assert len({row["background_id"] for row in made}) > 2
    verify(made)


@pytest.mark.parametrize("entry", [own(), add(), {"from_image": {"strength": 0.5}}])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_batch_size_moves_no_lesion_and_no_byte_outside(study: Params, entry: dict[str, Any], batch_size: int) -> None:
    two, other = make(changed(entry), "two"), make(changed(entry, batch_size=batch_size), "other")
    assert [row["mask_sha256"] for row in two] == [row["mask_sha256"] for row in other]
    assert [row["background_id"] for row in two] == [row["background_id"] for row in other]
    for one, again in zip(two, other, strict=True):
        assert abs(two.image(one).astype(int) - other.image(again)).max() <= 1


def test_a_finished_set_is_not_drawn_again(study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    params = changed(add())
    before = make(params).digest
    monkeypatch.setattr(generation, "build", lambda *_: pytest.fail("the generator was loaded"))
    assert make(params).digest == before


def test_from_an_image_every_pixel_is_drawn_and_the_image_is_named(study: Params) -> None:
    made = make(changed({"from_image": {"strength": 0.5}}))
    assert {row["strength"] for row in made} == {0.5}
    assert all(row["background_id"] == row["source_id"] and "placed" not in row for row in made)
    assert (made.folder / "README.md").read_text().count("made from a real training image") == 1
    elastic = make(changed({"from_image": {"strength": 0.5}, "masks": "elastic"}), "elastic")
    assert all(row["background_id"] == row["source_id"] != row["mask_id"] for row in elastic)


def test_both_options_draw_the_lesion_over_what_was_there(study: Params) -> None:
    plain, both = make(changed(own()), "plain"), make(changed(own() | {"from_image": {"strength": 1.0}}), "both")
    real, rows = train()
    for row, other in zip(plain, both, strict=True):
        hole = hole_of(both.mask(other) > 0, MARGIN)
        assert np.array_equal(both.image(other)[:, ~hole], real.image(rows[other["background_id"]])[:, ~hole])
        assert row["id"] == other["id"] and (plain.image(row) != both.image(other)).any()


def test_files_and_card_say_that_pixels_are_real(study: Params) -> None:
    made = make(changed(add()))
    row = made.rows[0]
    text = Image.open(made.folder / row["file_name"]).text  # type: ignore[attr-defined]
    assert text["Description"] == provenance.NOTICE_KEPT
    assert "digitalsourcetype/compositeWithTrainedAlgorithmicMedia" in text["XML:com.adobe.xmp"]
    assert json.loads(text["twinsynth"])["background_id"] == row["background_id"]
    body = (made.folder / "README.md").read_text()
    assert "drew lesions into a real training image" in body and "| keep_background |" in body
    told = files.read_json(made.folder / croissant.FILE)
    columns = {f["source"]["extract"]["column"] for f in told["recordSet"][0]["field"] if "column" in str(f)}
    assert columns == set(row)


def test_neither_option_trains_again_and_each_value_draws_again(study: Params) -> None:
    real = ImageSet.open(paths.real("toy")).split("train")
    entries = [{}, own(), own(feather=0.02), add(), add(lesions=2), {"from_image": {"strength": 0.5}},
               {"from_image": {"strength": 0.6}}]  # fmt: skip
    assert len({fingerprint(changed(entry), "drawn", real) for entry in entries}) == 1
    assert len({job(changed(entry)).fingerprint for entry in entries}) == len(entries)


def test_entries_without_them_keep_their_fingerprint() -> None:
    """Recorded before the two keys were there."""
    entry = GeneratorEntry.model_validate({"copies": 2, "method": "siamese", "start": 0.1})
    assert entry.model_dump(mode="json") == {
        "method": "siamese", "seed": 0, "copies": 2, "masks": "real", "mask_params": {}, "count": None, "start": 0.1
    }  # fmt: skip


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (own(margin=1.5), "generators.drawn.keep_background.margin: margin 1.5 is larger than the image"),
        (own(margin=-0.1), "margin -0.1 is negative"),
        (own(lesions=2), "lesions is 2, but placement own"),
        (own() | {"masks": "elastic"}, "keep_background.placement own needs masks: real, found 'elastic'"),
        ({"from_image": {"strength": 0}}, "generators.drawn.from_image.strength: strength 0.0 must be above 0"),
        ({"from_image": {"strength": 1.5}}, "strength 1.5 must be above 0 and at most 1"),
        ({"from_image": {"strength": 0.3}}, "strength 0.3 of generate.steps 2 leaves no step to run"),
        ({"from_image": {}}, "generators.drawn.from_image.strength: Field required"),
    ],
)
def test_bad_values_are_one_line(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        changed(entry)
    assert message in str(caught.value) and str(caught.value).count("\n") == 0


@pytest.mark.parametrize("entry", [{"keep_background": {}}, {"from_image": {"strength": 0.5}}])
def test_copy_paste_takes_neither(entry: dict[str, Any]) -> None:
    study = {**TOY_STUDY, "generators": {"copy_paste": {"copies": 1, **entry}}, "training_sets": {"real": {}}}
    with pytest.raises(UserError, match=r"copy_paste\.(keep_background|from_image): copy_paste cannot draw"):
        parse(Params, study)


def test_masks_of_no_training_image_need_a_free_place(study: Params) -> None:
    params = changed({"masks": "shapes", "from_image": {"strength": 0.5}, "count": 2})
    with pytest.raises(UserError, match="belongs to no training image that could lend its pixels"):
        make(params)
    assert len(make(changed({"masks": "shapes", "count": 2} | add()), "added")) == 4


def test_a_mask_without_a_free_place_is_drawn_in_its_own(study: Params) -> None:
    made = make(changed(own(placement="add", margin=0.9)))
    assert all(row["background_id"] == row["source_id"] and row["placed"] == "[]" for row in made)


def chooser(params: Params) -> Backgrounds:
    return Backgrounds("drawn", params.generators["drawn"], train()[0], 0)


def given(pixels: np.ndarray) -> ConditioningMask:
    return ConditioningMask("m_0", "bank/m_0", {}, pixels, "A photo of a blob.", "bank")


def test_a_foreign_mask_is_made_smaller_until_it_finds_a_place(study: Params) -> None:
    large = box(32, slice(5, 27), slice(5, 27))
    background = chooser(changed(add())).choose(given(large), 0)
    assert background.placed[0]["scale"] < 1
    assert 0 < background.new.sum() < large.sum()


def test_where_two_lesions_do_not_fit_one_is_drawn(study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    place = real_pixels.place
    monkeypatch.setattr(real_pixels, "place", lambda lesions, *x: place(lesions, *x) if len(lesions) == 1 else None)
    background = chooser(changed(add(lesions=2))).choose(given(box(32, slice(5, 9), slice(5, 9))), 0)
    assert len(background.placed) == 1 and background.placed[0]["source_id"] == "bank/m_0"


def test_a_foreign_mask_without_any_place_is_one_line(study: Params) -> None:
    with pytest.raises(UserError, match=r"keep_background: no training image has a free place for mask m_0 \(47%"):
        chooser(changed(own(placement="add", margin=0.9))).choose(given(box(32, slice(5, 27), slice(5, 27))), 0)


def test_masks_without_a_lesion_are_left_out(study: Params) -> None:
    masks = [given(box(32, slice(4, 4 + side), slice(4, 8))) for side in (1, 0, 3)]
    kept = chooser(changed(own())).masks(masks)
    assert [mask.pixels.sum() for mask in kept] == [4, 12]
    assert len(chooser(changed({"from_image": {"strength": 0.5}})).masks(masks)) == 3


@pytest.mark.parametrize("entry", [own(), add(), {"from_image": {"strength": 0.5}}])
def test_what_is_published_passes_audit_and_mix(study: Params, entry: dict[str, Any]) -> None:
    study = changed(entry)
    params = study.model_copy(update={"training_sets": {"kept": TrainingSet(generator="drawn", multiplier=2)}})
    generation.generate(params, "drawn")
    audit(params, "drawn")
    record = files.read_json(paths.audit("toy", "drawn") / "audit.json")
    kept = "keep_background" in entry
    assert record.get("kept_backgrounds") == (16 if kept else None)
    assert not kept or record["suspects"] < 16
    mixed = mix(params, "kept")
    assert len(mixed) == 24 and sum("background_id" in row for row in mixed) == 16
