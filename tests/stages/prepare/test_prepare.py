"""Prepare: what is written, and that nothing is where anything is wrong."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipeline.core import files, paths, plugins, tables
from pipeline.core.errors import UserError
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.splitting import SPLITS
from pipeline.stages.prepare.prepare import names_path, prepare, report_path
from pipeline.stages.prepare.validation import check_plugins
from pipeline.study import Params
from tests.conftest import REPOSITORY, TOY_STUDY
from tests.drawn_pairs import HEIGHT, WIDTH, brighter, folder, lists, pair, picture, rectangle, save, study
from tests.methods.test_readers import REAL_DATA

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A clean data set: two pairs in each split."""
    return folder(tmp_path / "set", train="a b", val="c d", test="e f")


def told(params: Params) -> list[str]:
    """The faults that prepare names; it must have written nothing."""
    with pytest.raises(UserError) as caught:
        prepare(params)
    assert list(Path().iterdir()) == []
    return str(caught.value).split("\n  ")[1:]


def table(params: Params) -> dict[str, str]:
    """Id by file."""
    return {row["file"]: row["id"] for row in tables.read_table(names_path(params.study))}


def splits(params: Params) -> dict[str, str]:
    """Split by the stem of the file."""
    split_of = {row["id"]: row["split"] for row in ImageSet.open(paths.real(params.study))}
    return {Path(name).stem: split_of[own] for name, own in table(params).items()}


def by_file(images: ImageSet, params: Params, name: str) -> dict[str, Any]:
    own = table(params)[f"images/{name}.png"]
    return next(row for row in images if row["id"] == own)


def test_a_clean_set_is_written_with_pseudonyms_and_splits(root: Path) -> None:
    params = study(root=root)
    images = prepare(params)
    assert images.ids == [f"case_0000{n}" for n in range(6)]
    assert ImageSet.open(paths.real("drawn")).digest == images.digest
    assert sorted(table(params)) == [f"images/{name}.png" for name in "abcdef"]
    assert splits(params) == dict(zip("abcdef", ["train", "train", "val", "val", "test", "test"], strict=True))


def test_no_output_holds_a_file_name_and_no_work_is_left(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", train="MUELLER_1 MUELLER_2", val="MUELLER_3", test="MUELLER_4")
    prepare(study(root=root))
    for path in paths.outputs("drawn").rglob("*"):
        assert "mueller" not in path.name.lower()
        assert path.is_dir() or b"mueller" not in path.read_bytes().lower()
    assert [path.name for path in paths.WORK.iterdir()] == ["names"]


def test_pixels_are_squashed_and_masks_stay_exact(root: Path) -> None:
    params = study(root=root)
    images = prepare(params)
    row = by_file(images, params, "a")
    expected = picture("a").resize((16, 16), Image.Resampling.BILINEAR)
    assert (images.image(row) == np.moveaxis(np.asarray(expected), -1, 0)).all()
    assert (images.mask(row) == rectangle(1, 16, 16)).all()
    assert Image.open(images.folder / row["mask"]).mode == "L"


@pytest.mark.parametrize("num_classes, mode", [(2, "1"), (2, "L"), (2, "P"), (4, "L"), (4, "P")])
def test_masks_are_never_dithered_in_any_mode(num_classes: int, mode: str, tmp_path: Path) -> None:
    root = folder(tmp_path / "set", train="a", val="b", test="c")
    truth = np.random.default_rng(0).integers(0, num_classes, (16, 16)).astype(np.uint8)
    for stem in "abc":
        mask = Image.fromarray(truth > 0) if mode == "1" else Image.fromarray(truth)
        if mode == "P":
            mask = Image.fromarray(truth, "P")
            mask.putpalette([10, 10, 10, 255, 0, 0, 0, 255, 0, 9, 9, 255])
        save(root / "images" / f"{stem}.png", picture(stem, 16, 16))
        save(root / "masks" / f"{stem}.png", mask)
    images = prepare(study(root=root, num_classes=num_classes))
    assert all((images.mask(row) == truth).all() for row in images)


def test_running_twice_gives_the_same_bytes(root: Path) -> None:
    prepare(study(root=root))
    first = files.tree_sha256(paths.outputs("drawn"))
    prepare(study(root=root))
    assert files.tree_sha256(paths.outputs("drawn")) == first


def test_a_drawn_split_follows_the_seed_and_the_groups(tmp_path: Path) -> None:
    root, rows = tmp_path / "set", ["id,group"]
    for number in range(24):
        pair(root, f"i{number}")
        rows.append(f"i{number},patient {number // 3}")
    (root / "manifest.csv").write_text("\n".join(rows))
    params = study(root=root, val_share=0.125, test_share=0.25)
    images = prepare(params)
    assert [len(images.split(split)) for split in ("train", "val", "test")] == [15, 3, 6]
    split_of = splits(params)
    patients = {(number // 3, split_of[f"i{number}"]) for number in range(24)}
    assert len(patients) == 8
    assert prepare(params).digest == images.digest
    other = prepare(params.model_copy(update={"seed": 1}))
    assert other.digest != images.digest


def test_a_limit_leaves_val_and_test_alone_and_takes_the_same_pairs_each_time(tmp_path: Path) -> None:
    root = folder(tmp_path / "set", train="a b c d e", val="f g", test="h i")
    params = study(root=root, train_limit=2)
    images = prepare(params)
    assert [len(images.split(split)) for split in ("train", "val", "test", "reserve")] == [2, 2, 2, 3]
    assert prepare(params).digest == images.digest
    more = prepare(study(root=root, train_limit=3))
    assert set(images.split("train").ids) < set(more.split("train").ids)
    assert set(more.ids) == set(images.ids)


def test_copies_of_one_image_are_drawn_into_one_split(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for number in range(10):
        pair(root, f"i{number}")
        save(root / "images" / f"i{number}.png", picture(f"i{number // 2}"))
    params = study(root=root)
    prepare(params)
    split_of = splits(params)
    assert all(split_of[f"i{n}"] == split_of[f"i{n + 1}"] for n in range(0, 10, 2))


def test_the_data_report_counts_by_split_and_names_ids_only(root: Path) -> None:
    save(root / "masks/a.png", np.minimum(rectangle(), 200))
    save(root / "masks/c.png", rectangle(0))
    params = study(root=root)
    prepare(params)
    report = files.read_json(report_path("drawn"))
    train = {"images": 2, "sources": {"default": 2}, "empty_masks": 0, "masks_with_label": {"0": 2, "1": 2}}
    assert report["splits"]["train"] == train
    assert report["splits"]["val"] == {**train, "empty_masks": 1, "masks_with_label": {"0": 2, "1": 1}}
    grey = "mask: grey levels, foreground is what exceeds 127"
    assert report["notes"] == {grey: [table(params)["images/a.png"]]}


def test_a_lesion_lost_by_resizing_is_noted(root: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[0, 0] = 255
    save(root / "masks/a.png", mask)
    params = study(root=root)
    prepare(params)
    lost = [table(params)["images/a.png"]]
    assert files.read_json(report_path("drawn"))["notes"] == {"mask: all foreground lost at 16 pixels": lost}


def test_an_image_turned_by_exif_agrees_with_its_mask(root: Path) -> None:
    """Stored lying, shown upright; the mask was drawn on what the viewer showed."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    upright = Image.fromarray(rectangle()).convert("RGB")
    save(root / "images/a.png", upright.transpose(Image.Transpose.ROTATE_90), exif=tags)
    params = study(root=root)
    images = prepare(params)
    row = by_file(images, params, "a")
    assert ((images.image(row)[0] > 127) == (images.mask(row) == 1)).mean() > 0.95
    turned = files.read_json(report_path("drawn"))["notes"]
    assert turned == {"image: turned upright, EXIF orientation 6": [row["id"]]}


def test_a_mask_drawn_on_the_lying_image_is_a_fault_that_names_exif(root: Path) -> None:
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = 6
    save(root / "images/a.png", picture("a"), exif=tags)
    expected = "images/a.png: the image is 32 x 40 pixels, its mask 40 x 32 (image: turned upright, EXIF orientation 6)"
    assert told(study(root=root)) == [f"{expected}; they must be equal"]


def test_all_faults_are_told_at_once(root: Path) -> None:
    (root / "masks/a.png").unlink()
    save(root / "masks/b.png", rectangle(255, 20, 20))
    (root / "images/c.png").write_bytes(b"broken")
    save(root / "masks/d.png", rectangle(3))
    save(root / "images/f.png", picture("g"))
    pair(root, "g")
    lists(root, train="a b g e")
    assert [line.split("; ")[0] for line in told(study(root=root))] == [
        "images/a.png: has no mask",
        "splits/train.txt: names 'e', which splits/test.txt also names",
        "images/b.png: the image is 40 x 32 pixels, its mask 20 x 20",
        "images/c.png: cannot be decoded (no known image format)",
        "images/d.png: its mask holds the values 3",
        "images/f.png and images/g.png: the same image in train and test",
    ]


def test_the_same_image_in_two_splits_is_an_error_even_with_other_compression(root: Path) -> None:
    save(root / "images/e.png", picture("a"), compress_level=0)
    for mode in ("warn", "error", "regroup"):
        expected = "images/a.png and images/e.png: the same image in train and test; keep it in one split"
        assert told(study(root=root, near_duplicates=mode)) == [expected]


@pytest.fixture
def look_alikes(root: Path) -> Path:
    """e (test) is a brighter a (train)."""
    save(root / "images/e.png", brighter(picture("a"), 8))
    return root


def test_near_duplicates_are_listed_by_id(look_alikes: Path, caplog: pytest.LogCaptureFixture) -> None:
    params = study(root=look_alikes)
    prepare(params)
    (found,) = files.read_json(report_path("drawn"))["near_duplicates"]["pairs"]
    assert {found["first"], found["second"]} == {table(params)["images/a.png"], table(params)["images/e.png"]}
    assert "near-duplicates across splits: 1 pairs" in caplog.text


def test_near_duplicates_can_be_an_error(look_alikes: Path) -> None:
    (line,) = told(study(root=look_alikes, near_duplicates="error"))
    assert line.startswith("images/a.png and images/e.png: look the same (")
    assert "lie in train and test" in line


def test_near_duplicates_can_be_moved_into_train(look_alikes: Path) -> None:
    params = study(root=look_alikes, near_duplicates="regroup")
    images = prepare(params)
    assert [len(images.split(split)) for split in ("train", "val", "test")] == [3, 2, 1]
    moved = files.read_json(report_path("drawn"))["near_duplicates"]["moved_into_train"]
    assert moved == [table(params)["images/e.png"]]


def test_moving_the_last_test_image_is_a_fault(look_alikes: Path) -> None:
    lists(look_alikes, test="e")
    assert told(study(root=look_alikes, near_duplicates="regroup"))[0].startswith("split test: holds no image")


def test_a_split_of_empty_masks_is_a_fault(root: Path) -> None:
    for stem in "ef":
        save(root / "masks" / f"{stem}.png", rectangle(0))
    (line,) = told(study(root=root))
    assert line.startswith("split test: every mask is empty")


def test_a_set_of_empty_masks_is_one_fault(root: Path) -> None:
    for stem in "abcdef":
        save(root / "masks" / f"{stem}.png", rectangle(0))
    (line,) = told(study(root=root))
    assert line.startswith("data: every mask is empty")


def test_unknown_labels_are_named_with_their_file(root: Path) -> None:
    save(root / "masks/a.png", rectangle(7))
    expected = "images/a.png: its mask holds the labels 7; data.num_classes 3 allows 0 to 2"
    for stem in "bcdef":
        save(root / "masks" / f"{stem}.png", rectangle(2))
    assert told(study(root=root, num_classes=3)) == [expected]


def test_names_that_come_to_one_id_are_a_fault(root: Path) -> None:
    for stem in ("x 1", "x_1"):
        pair(root, stem)
    lists(root, train="a b")
    with (root / "splits/train.txt").open("a") as file:
        file.write("x 1\nx_1\n")
    expected = "images/x 1.png and images/x_1.png: all get the id 'x_1'; rename all but one"
    assert told(study(root=root)) == [expected]


def test_odd_names_are_welcome(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for stem in ("Fall 7", "ünal", "息肉", "a;b"):
        pair(root, stem)
    assert len(prepare(study(root=root))) == 4


def test_a_source_without_prompt_is_named_once(root: Path) -> None:
    expected = "data.prompt: has no prompt for the source 'default'; it names: other"
    assert told(study(root=root, prompt={"other": "A photo."})) == [expected]


def test_prompts_go_by_source(root: Path) -> None:
    images = prepare(study(root=root, source="clinic", prompt={"clinic": "A photo of a mole.", "other": ""}))
    assert {row["prompt"] for row in images} == {"A photo of a mole."}


def test_an_empty_folder_is_one_fault(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / "set" / name).mkdir(parents=True)
    assert told(study(root=tmp_path / "set")) == ["data: no pair found; see docs/your_own_data.md for the layouts"]


def test_a_set_of_which_nothing_can_be_used_tells_why_and_no_more(tmp_path: Path) -> None:
    pair(tmp_path / "set", "a")
    (tmp_path / "set/images/a.png").write_bytes(b"broken")
    assert [line.split(";")[0] for line in told(study(root=tmp_path / "set"))] == [
        "images/a.png: cannot be decoded (no known image format)"
    ]


def test_a_fault_elsewhere_hides_no_empty_split(root: Path) -> None:
    """There is a list for val and one for test, none for train, and nothing left to be train."""
    for stem in "ab":
        (root / "images" / f"{stem}.png").unlink()
        (root / "masks" / f"{stem}.png").unlink()
    (root / "splits/train.txt").unlink()
    (root / "images/c.png").write_bytes(b"broken")
    assert [line.split(";")[0] for line in told(study(root=root))] == [
        "images/c.png: cannot be decoded (no known image format)",
        "split train: holds no image",
    ]


def test_two_pairs_are_too_few_to_draw_from(tmp_path: Path) -> None:
    for stem in "ab":
        pair(tmp_path / "set", stem)
    assert [line.split(";")[0] for line in told(study(root=tmp_path / "set"))] == ["split train: holds no image"]


def test_the_prompts_file_reads_back_as_the_same_set(root: Path) -> None:
    first = prepare(study(root=root))
    file = first.folder / "prompts.jsonl"
    line = json.loads(file.read_text().splitlines()[0])
    assert line.keys() == {"source", "target", "prompt", "split"}
    assert (first.folder / line["source"]).is_file() and (first.folder / line["target"]).is_file()
    again = prepare(study("jsonl", file=file.resolve(), prompt="Not used.").model_copy(update={"study": "again"}))
    hashes = [
        sorted((r["sha256"], r["mask_sha256"], r["split"], r["prompt"]) for r in images) for images in (first, again)
    ]
    assert hashes[0] == hashes[1]


def test_the_phantom_is_prepared_as_any_other_set() -> None:
    params = study("phantom", size=32, train=4, val=2, test=3)
    images = prepare(params)
    assert [len(images.split(split)) for split in ("train", "val", "test")] == [4, 2, 3]
    assert {row["source"] for row in images} == {"phantom"}


def test_huggingface_loads_the_folder(root: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = prepare(study(root=root))
    loaded = datasets.load_dataset("imagefolder", data_dir=str(images.folder), cache_dir="cache")
    assert sorted(loaded["train"]["id"]) == images.ids
    assert {row["mask"] for row in images} == set(loaded["train"]["mask"])


def values(**changes: Any) -> Params:
    return parse(Params, {**TOY_STUDY, "data": {**TOY_STUDY["data"], "train": 4, "val": 2, "test": 2}, **changes})


def test_plugins_of_a_good_study_pass() -> None:
    check_plugins(values())


def test_every_unknown_plugin_and_key_is_told_at_once() -> None:
    bad = values(
        data={**TOY_STUDY["data"], "trian": 4},
        generators={"siamese": {"copies": 2, "w_cc": 1}, "x": {"copies": 1, "method": "gan"}},
        segmenters={"unet": {"decoder": 1}},
        score={"metrics": ["frechett"], "extractors": ["nothing"]},
    )
    with pytest.raises(UserError) as caught:
        check_plugins(bad)
    for path in ("data.trian", "generators.siamese.w_cc", "generators.x: there is no 'gan'", "segmenters.unet.decoder",
                 "score.metrics: there is no 'frechett'", "score.extractors: there is no 'nothing'"):  # fmt: skip
        assert path in str(caught.value)


def test_the_names_of_all_readers_are_in_the_guide() -> None:
    guide = (REPOSITORY / "docs" / "your_own_data.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in guide for name in plugins.names("readers"))


@pytest.mark.skipif(REAL_DATA is None, reason="TWINSYNTH_REAL_DATA names no folder with real data")
@pytest.mark.parametrize(
    "name, reader, sizes", [("kvasir_seg", "kvasir", [800, 100, 100]), ("ph2", "ph2", [80, 20, 100])]
)
def test_real_data_is_prepared(name: str, reader: str, sizes: list[int]) -> None:
    root = Path(REAL_DATA or "") / name
    if not root.is_dir():
        pytest.skip(f"{root} is absent")
    images = prepare(study(reader, root=root, size=64))
    assert [len(images.split(split)) for split in ("train", "val", "test")] == sizes


def flat(root: Path, split_values: dict[str, list[tuple[int, int]]]) -> Path:
    """Pairs whose left half has one label, whose right half another: `split_values` lists both for each pair."""
    for split, labels in split_values.items():
        stems = [f"{split}{number}" for number in range(len(labels))]
        for stem, (left, right) in zip(stems, labels, strict=True):
            save(root / "images" / f"{stem}.png", picture(stem, 16, 16))
            mask = np.full((16, 16), left, np.uint8)
            mask[:, 8:] = right
            save(root / "masks" / f"{stem}.png", Image.fromarray(mask))
        lists(root, **{split: " ".join(stems)})
    return root


def test_a_class_that_no_training_mask_holds_is_named(tmp_path: Path) -> None:
    both, first = (0, 1), (0, 2)
    root = flat(tmp_path / "set", {"train": [both, both], "val": [both, first], "test": [first, first]})
    (fault,) = told(study(root=root, num_classes=3))
    assert fault.startswith("label 2: is in no training mask (3 other masks hold it); check data.num_classes")
    (fault,) = told(study(root=flat(tmp_path / "two", {s: [both, both] for s in SPLITS}), num_classes=3))
    assert fault.startswith("label 2: is in no training mask (nor in any other)")


def test_masks_without_background_are_refused(tmp_path: Path) -> None:
    root = flat(tmp_path / "set", {"train": [(255, 255)] * 2, "val": [(0, 255)], "test": [(0, 255)]})
    (fault,) = told(study(root=root))
    assert fault.startswith("background (label 0): is in no training mask (2 other masks hold it)")


def test_a_limit_that_loses_a_class_is_refused(tmp_path: Path) -> None:
    values = {"train": [(0, 1), (0, 2)], "val": [(0, 1)], "test": [(0, 2)]}
    root = flat(tmp_path / "set", values)
    prepare(study(root=root, num_classes=3))
    with pytest.raises(UserError, match=r"is in no training mask .*data\.train_limit"):
        prepare(study(root=root, num_classes=3, train_limit=1))
