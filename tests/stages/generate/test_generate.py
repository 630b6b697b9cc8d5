"""Facts of generation: images belong to mask and copy, files tell their origin, what is damaged is made again."""

import json
import resource
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

import pipeline
from pipeline.core import files, paths, seeding
from pipeline.core.contracts import ConditioningMask
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import MANIFEST, ImageSet
from pipeline.data.verification import is_intact, verify
from pipeline.methods.masks import _learnt_training
from pipeline.stages.finetune import generator
from pipeline.stages.finetune.fingerprint import fingerprint
from pipeline.stages.generate import card, croissant, provenance
from pipeline.stages.generate import generate as generation
from pipeline.stages.generate.plan import Plan
from pipeline.stages.generate.store import Store
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.tiny_base import write_tiny_base


@pytest.fixture
def study(toy_study: Params) -> Params:
    """The toy study with an untrained base and a generator whose control is not zero."""
    params = changed()
    write_tiny_base(paths.base("toy"), "sample")
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "scratch"})
    spec = ImageSet.open(paths.real("toy")).spec
    entry = params.generators["siamese"]
    generator.build("toy", params.seed, "siamese", entry, spec, Runtime.alone(1)).save(
        paths.generator("toy", "siamese")
    )
    return params


def changed(entry: dict[str, Any] | None = None, **generate: Any) -> Params:
    """The toy study with 8 masks, 2 copies, and changes."""
    own = {"copies": 2, "start": 0.1, **(entry or {})}
    study = {**TOY_STUDY, "generators": {"siamese": own}, "training_sets": {"real": {}}}
    return parse(Params, {**study, "generate": {**TOY_STUDY["generate"], **generate}})


def job(params: Params) -> generation.Job:
    real, trained = ImageSet.open(paths.real("toy")), paths.generator("toy", "siamese")
    return generation.Job(params, "siamese", trained, params.generators["siamese"].copies, real)


def make(params: Params, work: str = "work") -> ImageSet:
    """The set as one process makes it."""
    generation.fill(job(params), Runtime.alone(1), Path(work))
    return ImageSet.open(Path(work) / "set")


def pixels(images: ImageSet) -> np.ndarray:
    return np.stack([images.image(row) for row in images]).astype(int)


def test_every_mask_has_its_copies_and_the_columns_tell_all(study: Params) -> None:
    made, train = make(study), ImageSet.open(paths.real("toy")).split("train")
    assert sorted(made.ids) == sorted(f"{name}_c{copy}" for name in train.ids for copy in (0, 1))
    assert len({row["sha256"] for row in made}) == 16
    by_id = {row["id"]: row for row in train}
    for row in made:
        source = by_id[row["source_id"]]
        assert row["mask_sha256"] == source["mask_sha256"]  # byte for byte the training mask
        seed = seeding.number(0, "sample", row["source_id"], row["copy"])
        assert (row["mask_id"], row["transform"], row["seed"]) == (row["source_id"], "{}", str(seed))
    shared = {key: made.rows[0][key] for key in ("generator", "method", "masks", "sampler", "steps", "guidance_scale")}
    assert shared == {
        "generator": "siamese", "method": "siamese", "masks": "real", "sampler": "ddim", "steps": 2,
        "guidance_scale": 1.0,
    }  # fmt: skip
    assert {row["generator_sha256"] for row in made} == {files.tree_sha256(paths.generator("toy", "siamese"))}
    assert {(row["version"], row["synthetic"], row["split"]) for row in made} == {(pipeline.__version__, True, "train")}
    verify(made)


def test_standard_tools_read_where_an_image_comes_from(study: Params) -> None:
    made = make(study)
    row = made.rows[3]
    with Image.open(made.folder / row["file_name"]) as picture:
        assert isinstance(picture.info, dict)
        text = picture.text  # type: ignore[attr-defined]
    assert text["Software"] == f"twinsynth {pipeline.__version__}"
    assert text["Description"] == provenance.NOTICE
    assert "digitalsourcetype/trainedAlgorithmicMedia" in text["XML:com.adobe.xmp"]
    record = json.loads(text[provenance.KEYWORD])
    absent = {"file_name", "mask", "sha256", "mask_sha256", "split", "source"}
    assert record == {key: value for key, value in row.items() if key not in absent}
    assert row["sha256"] == files.sha256(made.folder / row["file_name"])  # of the file with its text
    with Image.open(made.folder / row["mask"]) as picture:
        assert not picture.text  # type: ignore[attr-defined]


def test_text_changes_no_pixel(tmp_path: Path) -> None:
    from pipeline.data.image_set import png

    drawn = seeding.numpy_rng("png").integers(0, 256, (8, 8, 3)).astype(np.uint8)
    for name, text in (("plain", None), ("told", {"twinsynth": "é" * 1000})):
        (tmp_path / name).write_bytes(png(drawn, text))
        assert np.array_equal(np.asarray(Image.open(tmp_path / name)), drawn)
    assert (tmp_path / "told").read_bytes() == png(drawn, {"twinsynth": "é" * 1000})


@pytest.mark.parametrize("batch_size", [1, 7])
def test_batch_size_changes_no_pixel_by_more_than_one_grey_level(study: Params, batch_size: int) -> None:
    four, other = make(changed(batch_size=4), "four"), make(changed(batch_size=batch_size), "other")
    assert four.ids == other.ids
    assert abs(pixels(four) - pixels(other)).max() <= 1
    assert pixels(four).std() > 1


def test_fewer_copies_are_the_first_copies(study: Params) -> None:
    one, two = make(changed({"copies": 1}), "one"), make(study, "two").take(1)
    assert one.ids == two.ids
    assert np.array_equal(pixels(one), pixels(two))


def test_an_entry_with_another_seed_is_another_training_and_other_noise(study: Params) -> None:
    train = ImageSet.open(paths.real("toy")).split("train")
    same, other = changed({"seed": 0}), changed({"seed": 7})
    trained = [fingerprint(params, "siamese", train) for params in (study, same, other)]
    assert trained[0] == trained[1] != trained[2]
    here, there = make(changed({"copies": 1}), "here"), make(changed({"copies": 1, "seed": 7}), "there")
    assert here.ids == there.ids
    assert not {row["seed"] for row in here} & {row["seed"] for row in there}
    assert abs(pixels(here) - pixels(there)).mean() > 1


def test_learnt_masks_tell_their_origin_and_are_the_same_after_their_model_is_lost(
    study: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_learnt_training, "FEWEST", 8)
    masks = {"masks": "learnt", "mask_params": {"steps": 2, "width": 8, "tries": 1}, "count": 5}
    params = changed({"copies": 1, **masks})
    whole = make(params)
    train = ImageSet.open(paths.real("toy")).split("train")
    for row, drawn_from in zip(whole, train.ids, strict=False):
        about = json.loads(row["transform"])
        assert (row["masks"], row["source_id"], about["method"]) == ("learnt", "learnt", "learnt")
        assert about["drawn_from"] == drawn_from
        assert 0 <= about["overlap"] <= 1 and 0 <= about["limit"] <= 1
    (model,) = Path("work").glob("masks-*")
    shutil.rmtree(model)
    shutil.rmtree(Path("work") / "rows")
    assert [row["mask_sha256"] for row in make(params)] == [row["mask_sha256"] for row in whole]


def test_what_is_whole_is_kept_and_what_is_damaged_is_made_again(study: Params) -> None:
    made = make(study)
    before = {path: path.read_bytes() for path in Path("work/set").rglob("*") if path.is_file()}
    kept = made.folder / made.rows[0]["file_name"]
    age = kept.stat().st_mtime_ns
    rows = sorted(Path("work/rows").rglob("*.json"))
    rows[2].write_text("[{")  # power failed
    lost, edited, other = (made.folder / made.rows[k]["file_name"] for k in (4, 7, 9))
    lost.unlink()
    edited.write_bytes(other.read_bytes())
    (made.folder / made.rows[10]["mask"]).write_bytes(b"")
    make(study)
    after = {path: path.read_bytes() for path in Path("work/set").rglob("*") if path.is_file()}
    assert after == before
    assert kept.stat().st_mtime_ns == age


def test_a_finished_set_does_not_load_its_generator(study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    make(study)
    monkeypatch.setattr(generation, "build", lambda *_: pytest.fail("the generator was loaded"))
    make(study)


@pytest.mark.parametrize(
    ("entry", "generate"),
    [({"copies": 1}, {}), ({"count": 3}, {}), ({"masks": "random"}, {}), ({}, {"steps": 3}), ({}, {"batch_size": 3})],
)
def test_other_parameters_have_another_folder(study: Params, entry: dict[str, Any], generate: dict[str, Any]) -> None:
    assert job(study).fingerprint == job(changed()).fingerprint
    assert job(changed(entry, **generate)).fingerprint != job(study).fingerprint


def test_another_version_or_other_weights_have_another_folder(study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    first = job(study).fingerprint
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "__version__", "9.9.9")
        assert job(study).fingerprint != first
    (paths.generator("toy", "siamese") / "controlnet.safetensors").write_bytes(b"other")
    assert job(study).fingerprint != first


class Given(Sequence[ConditioningMask]):
    """Masks of the split that a test names."""

    def __init__(self, images: ImageSet, transform: dict[str, Any] | None = None) -> None:
        self.images, self.transform = images, transform or {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, k: int) -> ConditioningMask:  # type: ignore[override]
        row = self.images.rows[k]
        return ConditioningMask(f"m_{k}", row["id"], self.transform, self.images.mask(row), row["prompt"], "bank")


def given(params: Params, masks: Sequence[ConditioningMask]) -> generation.Job:
    """A job over other masks than those of its entry."""
    other = job(params)
    other.__dict__["plan"] = Plan(masks, 2, 2)
    return other


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_mask_of_a_held_out_image_is_refused_by_name(study: Params, split: str) -> None:
    real = ImageSet.open(paths.real("toy"))
    bad = given(study, Given(real.split(split)))
    with pytest.raises(UserError, match=rf"mask m_0 \(from {split}_0\) belongs to a validation or test image"):
        generation.fill(bad, Runtime.alone(1), Path("work"))
    assert not list(Path("work").rglob("*.png"))


def test_other_masks_are_told_with_source_and_transform(study: Params) -> None:
    real = ImageSet.open(paths.real("toy"))
    turned = given(study, Given(real.split("train"), {"angle": 12.5, "shift": [1, -2]}))
    generation.fill(turned, Runtime.alone(1), Path("work"))
    row = ImageSet.open(Path("work/set")).rows[0]
    assert (row["id"], row["mask_id"], row["source_id"], row["source"]) == ("m_0_c0", "m_0", "train_0", "bank")
    assert json.loads(row["transform"]) == {"angle": 12.5, "shift": [1, -2]}


def test_masks_that_have_changed_are_drawn_again(study: Params) -> None:
    """A bank's file, edited between two runs: only the images of that mask are made again."""
    real = ImageSet.open(paths.real("toy"))
    train = real.split("train")
    generation.fill(given(study, Given(train)), Runtime.alone(1), Path("work"))
    before = {row["id"]: row["mask_sha256"] for row in ImageSet.open(Path("work/set"))}
    swapped = train.select([*train.rows[:6], train.rows[7] | {"id": train.rows[6]["id"]}, train.rows[7]])
    generation.fill(given(study, Given(swapped)), Runtime.alone(1), Path("work"))
    made = ImageSet.open(Path("work/set"))
    after = {row["id"]: row["mask_sha256"] for row in made}
    assert {name for name in after if after[name] != before[name]} == {"m_6_c0", "m_6_c1"}
    assert all(is_intact(made.folder, row) for row in made)


def test_no_mask_is_told(study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.methods.masks import real as masks

    monkeypatch.setattr(masks, "build", lambda *_: [])
    with pytest.raises(UserError, match=r"generators\.siamese\.masks: real gives no mask"):
        make(study)


def test_a_full_disk_is_one_message_and_loses_nothing(study: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file may grow beyond 2000 bytes, as if there were no room."""
    monkeypatch.setattr(generation, "track", lambda items, *_, **__: items)  # it writes to a file too
    whole = make(study, "whole")
    generation.fill(job(study), Runtime.alone(1), Path("work"))
    (Path("work/set") / MANIFEST).unlink()
    for number in (5, 6, 7):
        Store(Path("work"), job(study).plan).row_file(number).unlink()
    kept = {path: path.stat().st_mtime_ns for path in Path("work/rows").rglob("*.json")}
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        with pytest.raises(UserError, match=r"work.* cannot be written \(File too large\); what is finished is kept"):
            make(study)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {path: path.stat().st_mtime_ns for path in Path("work/rows").rglob("*.json")} == kept
    assert not list(Path("work").rglob(".*.tmp"))
    assert make(study).digest == whole.digest


def test_a_folder_that_cannot_be_written_is_named(study: Params) -> None:
    Path("work").mkdir()
    Path("work/set").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"work/set/images.* cannot be written"):
        make(study)


def test_a_lost_image_is_told_when_it_is_used(study: Params) -> None:
    made = make(study)
    (made.folder / made.rows[5]["file_name"]).unlink()
    with pytest.raises(UserError, match=f"{made.ids[5]}.png cannot be opened"):
        verify(made)
    with pytest.raises(UserError, match=f"{made.ids[5]}.png cannot be decoded"):
        made.image(made.rows[5])


def test_huggingface_loads_the_folder(study: Params, tmp_path: Path) -> None:
    """By the name of the loader, and by the card; ids do not hold the word train, as pseudonyms do not."""
    datasets = pytest.importorskip("datasets")
    masks = Given(ImageSet.open(paths.real("toy")).split("train"), {"angle": 12.5})
    generation.fill(given(study, masks), Runtime.alone(1), Path("work"))
    made = ImageSet.open(Path("work/set"))
    for name, folder in (("imagefolder", str(made.folder)), (str(made.folder), None)):
        loaded = datasets.load_dataset(name, data_dir=folder, cache_dir=str(tmp_path / "cache"))["train"]
        assert sorted(loaded["id"]) == made.ids
        assert set(loaded["transform"]) == {'{"angle": 12.5}'} and set(loaded["synthetic"]) == {True}
        first = {row["id"]: row for row in made}[loaded[0]["id"]]
        assert np.array_equal(np.moveaxis(np.asarray(loaded[0]["image"]), -1, 0), made.image(first))


def header(folder: Path) -> dict[str, Any]:
    _, yaml, _ = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return YAML(typ="safe").load(yaml)


def test_the_card_tells_what_hugging_face_asks_and_how_the_set_was_made(study: Params) -> None:
    made = make(study)
    about = header(made.folder)
    assert about["license"] == "other" and about["license_name"] == "terms-of-training-data"
    assert about["task_categories"] == ["image-segmentation"] and "synthetic" in about["tags"]
    assert about["size_categories"] == ["n<1K"]
    body = (made.folder / "README.md").read_text(encoding="utf-8")
    for told in ("16 images of 32 x 32 pixels", "2 image(s) for each of 8 mask(s)", "| steps | 2 |", "| seed | 0 |",
                 "Not for clinical use", "trained from scratch", "bound by the terms of those"):  # fmt: skip
        assert told in body.replace("\n", " ")


def test_images_without_masks_that_the_base_saw_are_told_wherever_the_set_goes(study: Params) -> None:
    plain = make(study, "plain")
    about = {"fingerprint": "0", "source": "scratch", "unlabelled": {"images": 900, "digest": "1"}}
    files.write_json(paths.base("toy") / "manifest.json", about)
    made = make(study)
    assert {row["base_unlabelled_images"] for row in made} == {900}
    assert all("base_unlabelled_images" not in row for row in plain)
    body = (made.folder / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    assert "trained from scratch on the same images and on 900 real images without masks" in body
    assert "on 900 images without masks, so the set is bound by the terms of both" in body
    assert "| base_unlabelled_images | 900 |" in body
    told = files.read_json(made.folder / croissant.FILE)
    assert told["description"].endswith("The base model was pretrained on 900 real images without masks too.")
    assert "bound by the terms of both" in told["license"]
    fields = {field["@id"]: field["dataType"] for field in told["recordSet"][0]["field"] if "@id" in field}
    assert fields["images/base_unlabelled_images"] == "sc:Integer"
    chunk = json.loads(Image.open(made.folder / made.rows[0]["file_name"]).text["twinsynth"])  # type: ignore[attr-defined]
    assert chunk["base_unlabelled_images"] == 900
    assert [row["sha256"] for row in make(study, "again")] == [row["sha256"] for row in made]


def test_a_foreign_base_brings_its_terms(study: Params) -> None:
    files.write_json(paths.base("toy") / "manifest.json", {"fingerprint": "0", "source": "someone/a-base"})
    made = make(study)
    body = (made.folder / "README.md").read_text(encoding="utf-8")
    assert "someone/a-base" in body and "CreativeML OpenRAIL-M" in body
    assert header(made.folder)["license_name"] == "terms-of-training-data-and-base-model"


def test_no_path_of_this_machine_is_told(study: Params) -> None:
    choices = {"mask_params": {"folder": "/some/where/my_masks", "bound": 0.1}}
    summary = job(study).summary()
    told = card._body(card.SetSummary(summary.spec, 1, 1, 1, None, summary.columns, choices))
    assert "my_masks" in told and "/some/where" not in told


@pytest.mark.parametrize(
    ("images", "category"),
    [(1, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (50_000, "10K<n<100K"), (10**6, "1M<n<10M"), (10**9, "n>1B")],
)
def test_size_categories_are_those_of_hugging_face(images: int, category: str) -> None:
    assert card.size_category(images) == category


def test_croissant_keeps_the_rules_of_the_format(study: Params) -> None:
    """The rules of Croissant 1.0: required properties, one id each, references to ids that are there, the checksum."""
    made = make(study)
    told = files.read_json(made.folder / croissant.FILE)
    assert told["@type"] == "sc:Dataset" and told["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    required = {"@context", "description", "license", "name", "url", "creator", "datePublished", "distribution"}
    assert required <= told.keys()
    table, *sets = told["distribution"]
    assert table["@type"] == "cr:FileObject" and table["encodingFormat"] == "application/jsonlines"
    assert table["sha256"] == files.sha256(made.folder / table["contentUrl"])
    for part in sets:
        assert part["@type"] == "cr:FileSet" and len(found(made.folder, part["includes"])) == 16
    images, masks = told["recordSet"]
    fields = images["field"]
    assert {"id", "image", "mask", "prompt", "seed", "transform", "steps"} <= {field["name"] for field in fields}
    assert {"id", "mask"} <= {field["name"] for field in masks["field"]}
    described = [*told["distribution"], images, masks, *fields, *masks["field"]]
    ids = [item["@id"] for item in described]
    assert len(set(ids)) == len(ids)
    body = {key: value for key, value in told.items() if key != "@context"}
    assert set(references(body)) <= set(ids)
    used = {"fileObject", "fileSet", "extract", "column", "references", "fileProperty", "transform", "regex", "key"}
    assert used <= set(words(body)) and used <= told["@context"].keys()
    columns = {f["source"]["extract"]["column"] for f in fields if "column" in f["source"]["extract"]}
    assert columns == set(made.rows[0])  # every column is described, and none that is not there
    kinds = {"sc:Text": str, "sc:Integer": int, "sc:Float": float, "sc:Boolean": bool}
    for field in fields:
        if field["dataType"] in kinds:
            assert type(made.rows[0][field["source"]["extract"]["column"]]) is kinds[field["dataType"]]


def found(folder: Path, patterns: list[str]) -> list[Path]:
    return [path for pattern in patterns for path in folder.glob(pattern)]


def references(value: Any) -> Iterator[str]:
    """Every {"@id": ...} that stands alone: a reference."""
    if isinstance(value, dict):
        if value.keys() == {"@id"}:
            yield value["@id"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def words(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from words(item)
    elif isinstance(value, list):
        for item in value:
            yield from words(item)


def test_a_limit_leaves_masks_of_other_pairs_out_and_the_columns_say_so(study: Params) -> None:
    made, limited = make(study), make(changed({"limit": 3}), "limited")
    known = job(changed({"limit": 3})).train.ids
    assert len(known) == 3 and {row["source_id"] for row in limited} == set(known)
    assert {(row["limit"], row["training_pairs"], row["base_unlabelled_images"]) for row in limited} == {(3, 3, 5)}
    by_id = {row["id"]: row["sha256"] for row in made}
    same = ImageSet.open(Path("limited") / "set")
    assert [made.image(row).tolist() for row in made if row["id"] in set(same.ids)] == [
        same.image(row).tolist() for row in same
    ]  # the same weights draw the same images
    assert len(by_id) == 16 and not {"limit", "training_pairs", "base_unlabelled_images"} & made.rows[0].keys()
    card_text = (limited.folder / "README.md").read_text(encoding="utf-8")
    assert "fine-tuned on 3 of the real training images of the study (`limit: 3`)" in card_text
    assert "and on 5 real images without masks" in card_text


def test_a_limit_is_part_of_the_fingerprints(study: Params) -> None:
    other = [changed({"limit": 3}), changed({"limit": 3, "limit_draw": 1}), changed({"limit": 8})]
    assert len({job(params).fingerprint for params in (study, *other)}) == 4
    trained = [fingerprint(params, "siamese", job(params).train) for params in (study, *other)]
    assert len(set(trained[:3])) == 3 and trained[3] == trained[0]  # all pairs are all pairs
