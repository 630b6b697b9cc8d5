"""Images without masks: which are taken, which are left out or refused, and that the pairs are as they were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.stages.prepare import checked_set
from pipeline.stages.prepare.prepare import names_path, prepare, report_path
from pipeline.study import Params
from tests.drawn_pairs import brighter, folder, picture, rectangle, save, study

TEXT = "A photo of a square."


pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six training pairs, two of validation and of test."""
    return folder(tmp_path / "set", train="a b c d e f", val="g h", test="i j")


@pytest.fixture
def more(tmp_path: Path) -> Path:
    """A folder of three images without masks, of several kinds, and what is no image."""
    for name, suffix in (("u", "png"), ("v", "jpg"), ("w", "bmp")):
        save(tmp_path / "more" / f"{name}.{suffix}", picture(name))
    (tmp_path / "more" / "notes.txt").write_text("no image")
    (tmp_path / "more" / ".hidden.png").write_text("no image")
    return tmp_path / "more"


def unlabelled(params: Params) -> ImageSet:
    """The unlabelled images that prepare publishes."""
    prepare(params)
    return ImageSet.open(paths.unlabelled("drawn"))


def told(params: Params) -> str:
    """The one line of prepare, which must have written nothing."""
    with pytest.raises(UserError) as caught:
        prepare(params)
    assert list(Path().iterdir()) == []
    (line,) = str(caught.value).split("\n  ")[1:] or [str(caught.value)]
    return line


def report() -> dict[str, Any]:
    return files.read_json(report_path("drawn"))["unlabelled"]


def test_images_of_a_folder_are_a_set_without_masks_at_the_studys_size(root: Path, more: Path) -> None:
    images = unlabelled(study(root=root, unlabelled={"folder": str(more)}))
    assert images.ids == ["unlabelled_00000", "unlabelled_00001", "unlabelled_00002"]
    assert {(row["split"], row["source"], row["prompt"]) for row in images} == {("unlabelled", "unlabelled", TEXT)}
    assert all(images.picture(row).shape == (3, 16, 16) for row in images)
    assert sorted(path.name for path in images.folder.iterdir()) == [
        ".sums.json", "images", "metadata.jsonl", "spec.json"
    ]  # fmt: skip
    assert all("mask" not in row for row in images)
    with pytest.raises(UserError, match="has no mask"):
        images.mask(images.rows[0])
    assert report() == {
        "images": 3, "folder": 3, "rest": 0, "left_out": {"near_duplicates": [], "copies": [], "groups": []}
    }  # fmt: skip


def test_they_are_resized_as_training_images_and_named_in_the_local_table(root: Path, more: Path) -> None:
    save(more / "only.png", picture("a2"))
    save(root / "images" / "a.png", picture("a2"))
    params = study(root=root, unlabelled={"folder": str(more), "rest": False})
    images = unlabelled(params)
    own = {Path(row["file"]).name: row["id"] for row in tables.read_table(names_path("drawn"))}
    assert own["only.png"] not in images.ids  # a copy of a training image, with a name all the same
    assert report()["left_out"]["copies"] == [own["only.png"]]
    assert own["u.png"] in images.ids
    pixels = {row["id"]: images.image(row) for row in images}[own["u.png"]]
    save(root / "images" / "a.png", picture("u"))
    real = prepare(study(root=root))
    as_training = {row["file"]: row["id"] for row in tables.read_table(names_path("drawn"))}["images/a.png"]
    assert ({row["id"]: real.image(row) for row in real}[as_training] == pixels).all()


def test_the_pairs_and_their_files_do_not_change(root: Path, more: Path) -> None:
    real = prepare(study(root=root))
    before, empty = files.tree_sha256(real.folder), ImageSet.open(paths.unlabelled("drawn"))
    assert len(empty) == 0 and "unlabelled" not in files.read_json(report_path("drawn"))
    unlabelled(study(root=root, unlabelled={"folder": str(more)}))
    assert files.tree_sha256(real.folder) == before


def test_a_study_without_them_has_the_fingerprint_of_earlier_versions(root: Path) -> None:
    assert "unlabelled" not in study(root=root).data.model_dump()


def test_rest_takes_the_training_images_beyond_the_limit_without_their_masks(root: Path) -> None:
    images = unlabelled(study(root=root, train_limit=2, unlabelled={"rest": True}))
    real = ImageSet.open(paths.real("drawn"))
    reserve = real.split("reserve")
    assert images.ids == reserve.ids and len(images) == 4
    assert [row["sha256"] for row in images] == [row["sha256"] for row in reserve]
    assert all("mask" not in row for row in images)
    assert (report()["folder"], report()["rest"]) == (0, 4)
    assert len(real.split("train")) == 2


def test_folder_and_rest_add_up_and_an_image_of_both_counts_once(root: Path, more: Path) -> None:
    save(more / "again.png", picture("a"))
    save(more / "u_again.png", picture("u"))
    images = unlabelled(study(root=root, train_limit=2, unlabelled={"folder": str(more), "rest": True}))
    assert len(images) == 7 and len({row["sha256"] for row in images}) == 7
    assert len(report()["left_out"]["copies"]) == 2
    assert (report()["folder"], report()["rest"]) == (3, 4)


def test_a_test_image_among_them_is_refused_in_one_line_that_names_both(root: Path, more: Path) -> None:
    save(more / "x.png", picture("i"))
    line = told(study(root=root, unlabelled={"folder": str(more)}))
    assert f"{more / 'x.png'}: is the test image images/i.png; remove such images" in line
    save(more / "y.bmp", picture("g"))
    line = told(study(root=root, unlabelled={"folder": str(more)}))
    assert "is the test image images/i.png, and 1 more are held-out images; " in line
    assert "data.unlabelled.folder" in line


@pytest.mark.parametrize("mode", ["warn", "regroup"])
def test_images_that_look_like_a_held_out_one_are_left_out(
    mode: str, root: Path, more: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(more / "x.png", brighter(picture("j"), 6))
    images = unlabelled(study(root=root, near_duplicates=mode, unlabelled={"folder": str(more)}))
    own = {row["file"]: row["id"] for row in tables.read_table(names_path("drawn"))}
    (pair,) = report()["left_out"]["near_duplicates"]
    assert (pair["first"], pair["second"]) == (own[str(more / "x.png")], own["images/j.png"])
    assert len(images) == 3 and pair["first"] not in images.ids
    assert "unlabelled images left out: look-alikes of validation or test images: 1; real" in caplog.text
    assert len(ImageSet.open(paths.real("drawn")).split("test")) == 2  # no test image moves


def test_images_that_look_like_a_held_out_one_can_be_an_error(root: Path, more: Path) -> None:
    save(more / "x.png", brighter(picture("j"), 6))
    line = told(study(root=root, near_duplicates="error", unlabelled={"folder": str(more)}))
    assert f"{more / 'x.png'}: looks like the test image images/j.png; " in line


def test_rest_leaves_out_look_alikes_and_groups_of_held_out_images(root: Path) -> None:
    save(root / "images" / "c.png", brighter(picture("j"), 6))
    rows = [f"{stem},patient {1 if stem in 'ei' else stem}" for stem in "abcdefghij"]
    (root / "manifest.csv").write_text("\n".join(["id,group", *rows]))
    params = study(root=root, train_limit=1, unlabelled={"rest": True})
    images = unlabelled(params)
    own = {Path(row["file"]).stem: row["id"] for row in tables.read_table(names_path("drawn"))}
    limited = ImageSet.open(paths.real("drawn")).split("train").ids
    expected = {own[stem] for stem in "abdf"} - {*limited}
    assert set(images.ids) == expected
    assert [pair["first"] for pair in report()["left_out"]["near_duplicates"]] == [own["c"]] * (own["c"] not in limited)
    assert report()["left_out"]["groups"] == [own["e"]] * (own["e"] not in limited)


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, "data.unlabelled: give folder"),
        ({"rest": True}, "unlabelled.rest takes the training images beyond train_limit; set train_limit"),
        ({"folder": "x", "masks": "y"}, "data.unlabelled.masks is not a parameter"),
    ],
)
def test_sections_that_name_nothing_are_refused(section: dict[str, Any], expected: str, root: Path) -> None:
    with pytest.raises(UserError, match=expected):
        study(root=root, unlabelled=section)


def test_a_prompt_per_source_needs_one_for_the_folder(root: Path, more: Path) -> None:
    prompts = {"default": TEXT}
    with pytest.raises(UserError, match=r"unlabelled.prompt is missing; data.prompt has one prompt per source"):
        study(root=root, prompt=prompts, unlabelled={"folder": str(more)})
    images = unlabelled(study(root=root, prompt=prompts, unlabelled={"folder": str(more), "prompt": "Another."}))
    assert {row["prompt"] for row in images} == {"Another."}


def test_folders_that_hold_nothing_are_told(root: Path, tmp_path: Path) -> None:
    assert "is not a folder" in told(study(root=root, unlabelled={"folder": str(tmp_path / "none")}))
    (tmp_path / "empty").mkdir()
    assert "holds no image; files of these types" in told(
        study(root=root, unlabelled={"folder": str(tmp_path / "empty")})
    )
    save(tmp_path / "empty" / "a.png", picture("a"))
    line = told(study(root=root, unlabelled={"folder": str(tmp_path / "empty")}))
    assert line == "data.unlabelled: no image is left (copies: 1); add images, or remove data.unlabelled"
    line = told(study(root=root, train_limit=6, unlabelled={"rest": True}))
    assert "no training image lies beyond data.train_limit (6)" in line


def test_damaged_and_foreign_files_are_told_with_the_faults_of_the_pairs(root: Path, more: Path) -> None:
    (more / "torn.png").write_bytes((more / "u.png").read_bytes()[:60])
    (more / "link.png").symlink_to(root / "images" / "a.png")
    (root / "masks" / "a.png").unlink()
    with pytest.raises(UserError) as caught:
        prepare(study(root=root, unlabelled={"folder": str(more)}))
    lines = str(caught.value).split("\n  ")[1:]
    assert len(lines) == 3
    assert any("torn.png: cannot be decoded" in line for line in lines)
    assert any("link.png: leads out of data.unlabelled.folder" in line for line in lines)


def test_a_file_that_changes_between_the_check_and_the_writing_is_told(root: Path, more: Path) -> None:
    checked = checked_set.load_checked_set(study(root=root, unlabelled={"folder": str(more)}).data, 0)
    for path in more.glob("*.*"):
        path.write_bytes(b"")
    with pytest.raises(UserError, match="has changed since it was checked"):
        np.asarray(checked.unlabelled.samples[0].image)


def test_running_twice_gives_the_same_bytes(root: Path, more: Path) -> None:
    params = study(root=root, train_limit=3, unlabelled={"folder": str(more), "rest": True})
    prepare(params)
    first = files.tree_sha256(paths.outputs("drawn"))
    prepare(params)
    assert files.tree_sha256(paths.outputs("drawn")) == first
    assert sorted(path.name for path in Path("work").iterdir()) == ["names"]


def test_grey_studies_take_grey_images(tmp_path: Path, root: Path) -> None:
    for path in (root / "images").iterdir():
        save(path, picture(path.stem).convert("L"))
    save(tmp_path / "grey" / "u.png", picture("u").convert("L"))
    params = study_of_grey(root, tmp_path / "grey")
    prepare(params)
    images = ImageSet.open(paths.unlabelled("drawn"))
    assert images.image(images.rows[0]).shape == (1, 16, 16)
    save(tmp_path / "grey" / "u.png", picture("u"))
    with pytest.raises(UserError, match=r"u\.png: is a colour image, but data.channels asks for grey ones"):
        prepare(params)


def study_of_grey(root: Path, more: Path) -> Params:
    from tests.drawn_pairs import study_of_segmenters

    section = {"reader": "paired_folders", "root": str(root), "size": 16, "channels": 1}
    return study_of_segmenters(**section, unlabelled={"folder": str(more)})


def test_masks_of_the_readers_do_not_come_along(root: Path) -> None:
    """A folder whose files are masks in truth is no leak of theirs: nothing of data.root is read but what is named."""
    save(root / "more" / "u.png", picture("u"))
    save(root / "more" / "masks" / "u.png", rectangle())
    images = unlabelled(study(root=root, unlabelled={"folder": str(root / "more")}))
    assert len(images) == 1
