"""Studies of several raters, of grey pictures and of contrasts: from CIMD's folders to the prepared set."""

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.core import files, paths
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.stages.prepare.checked_set import load_checked_set
from pipeline.stages.prepare.prepare import prepare, report_path
from tests.data_folders import HEIGHT, WIDTH, cimd
from tests.drawn_pairs import folder, picture, rectangle, save, study, study_of_segmenters

REAL_DATA = os.environ.get("TWINSYNTH_REAL_DATA")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The current folder; the data set is its sibling."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """16 cases of four raters, of whom the last sees nothing."""
    cimd(tmp_path / "set")
    return tmp_path / "set"


def prepared(root: Path, **data: Any) -> ImageSet:
    own = {"reader": "multirater", "root": root, "size": 40, "rater": "all", "channels": 1, "val_share": 0.2}
    return prepare(study_of_segmenters(**own | data))


def refusal(root: Path, **data: Any) -> str:
    """What prepare says; it must have written nothing."""
    with pytest.raises(UserError) as caught:
        prepared(root, **data)
    assert not paths.outputs("drawn").exists()
    return str(caught.value)


def test_all_raters_and_the_patients_reach_the_set(root: Path) -> None:
    images = prepared(root)
    spec, row = images.spec, images.rows[0]
    assert (spec.channels, spec.raters, spec.ndim, spec.spatial) == (1, 4, 2, (40, 40))
    assert images.image(row).shape == (1, 40, 40)
    assert images.masks(row).sum((1, 2)).tolist() == [400, 400, 400, 0] and images.mask(row).sum() == 400
    assert Counter(own["split"] for own in images) == {"train": 10, "val": 2, "test": 4}
    groups = {split: {own["group"] for own in images.split(split)} for split in ("train", "val", "test")}
    assert [len(groups[split]) for split in groups] == [5, 1, 2]  # two cases of each patient, never divided
    assert files.read_json(report_path("drawn"))["splits"]["val"]["masks_with_label"] == {"0": 2, "1": 2}


def test_grey_levels_above_127_are_foreground_for_every_rater(root: Path) -> None:
    grey = rectangle(200, WIDTH, HEIGHT)
    grey[-8:, -8:] = 100
    save(root / "training/0/label3_.png", grey)
    images = prepared(root)
    assert Counter(tuple(images.masks(row).sum((1, 2)).tolist()) for row in images) == {
        (400, 400, 400, 0): 15, (400, 400, 400, 400): 1}  # fmt: skip


def test_any_number_of_raters_and_several_classes(tmp_path: Path) -> None:
    cimd(tmp_path / "two", raters=2)
    labels = rectangle(1, WIDTH, HEIGHT) + 2 * rectangle(1, WIDTH, HEIGHT)[::-1, ::-1]
    for path in (tmp_path / "two").rglob("label1_.png"):
        save(path, labels)
    for path in (tmp_path / "two").rglob("label0_.png"):
        save(path, rectangle(1, WIDTH, HEIGHT))
    images = prepared(tmp_path / "two", num_classes=3)
    masks = images.masks(images.rows[0])
    assert [np.bincount(mask.ravel(), minlength=3).tolist() for mask in masks] == [[1200, 400, 0], [800, 400, 400]]
    assert np.bincount(images.mask(images.rows[0]).ravel()).tolist() == [800, 400, 400]  # 1:1: the structure has it


def test_contrasts_are_channels_in_the_order_of_their_names(root: Path) -> None:
    for case in root.glob("t*/*"):
        flair = picture(str(case.relative_to(root)), WIDTH, HEIGHT).convert("L")
        save(case / f"image_{case.name}_t2.png", flair.point(lambda value: 255 - value))
        (case / f"image_{case.name}.png").unlink()
        save(case / f"image_{case.name}_t1.png", flair)
    images = prepared(root, channels=2)
    image = images.image(images.rows[0]).astype(int)
    assert image.shape == (2, 40, 40) and np.abs(image.sum(0) - 255).max() <= 1  # resized each on its own
    (root / "training/3/image_3_t1.png").unlink()
    assert "training/3: holds 1 files image_*; a case has 2, one for each contrast" in refusal_after(root)


def refusal_after(root: Path) -> str:
    """What a second prepare says."""
    with pytest.raises(UserError) as caught:
        prepared(root, channels=2)
    return str(caught.value)


def test_a_slice_with_a_missing_rater_is_named(root: Path) -> None:
    (root / "training/5/label2_.png").unlink()
    told = refusal(root)
    assert "training/5: holds the masks of 3 raters, other cases of 4 (missing: label2_); add or remove some" in told


def test_colours_where_grey_is_meant_are_named(root: Path) -> None:
    save(root / "training/5/image_5.png", picture("colours", WIDTH, HEIGHT))
    assert "training/5/image_5.png: is a colour image, but data.channels asks for grey ones" in refusal(root)


def test_labels_outside_the_list_are_named_with_their_file(root: Path) -> None:
    save(root / "training/5/label1_.png", rectangle(3, WIDTH, HEIGHT))
    told = refusal(root)
    assert "training/5: label1_.png: its mask holds the values 3; a binary mask holds 0 and 1" in told


def test_masks_of_two_sizes_are_named(root: Path) -> None:
    save(root / "training/5/label1_.png", rectangle(255, WIDTH + 8, HEIGHT))
    assert "training/5: holds masks of several sizes; they must be equal" in refusal(root)
    for rater in range(4):
        save(root / f"training/5/label{rater}_.png", rectangle(255, WIDTH + 8, HEIGHT))
    assert "training/5/image_5.png: the image is 80 x 72 pixels, its mask 88 x 72; they must be equal" in refusal(root)


def test_grey_pictures_of_any_reader(tmp_path: Path) -> None:
    root = folder(tmp_path / "pairs", train="a b", val="c d", test="e f")
    colours = {"reader": "paired_folders", "rater": None}
    assert refusal(root, **colours).count("is a colour image, but data.channels asks for grey ones") == 6
    for path in root.glob("images/*"):
        save(path, picture(path.stem).convert("L"))
    images = prepared(root, **colours)
    assert images.image(images.rows[0]).shape == (1, 40, 40) and images.spec.raters == 1
    coloured = prepared(root, **colours | {"channels": 3})
    assert coloured.image(coloured.rows[0]).shape == (3, 40, 40)
    assert "has 3 channels, but data.channels is 2; they must be equal" in refusal_of_two(root)


def refusal_of_two(root: Path) -> str:
    with pytest.raises(UserError) as caught:
        prepared(root, reader="paired_folders", rater=None, channels=2)
    return str(caught.value)


def test_generators_refuse_what_they_cannot_draw(root: Path) -> None:
    with pytest.raises(UserError, match="generators draw pictures of 3 channels, but data has 1 channels"):
        study("multirater", root=root, channels=1)
    with pytest.raises(UserError, match="generators draw pictures of 3 channels, but data has volumes"):
        study("volumes", root=root, size=0, shape=[8, 8, 8])


@pytest.mark.skipif(REAL_DATA is None, reason="TWINSYNTH_REAL_DATA names no folder with real data sets")
def test_real_raters() -> None:
    assert REAL_DATA is not None
    own = {"reader": "multirater", "root": Path(REAL_DATA) / "lidc_4rater", "size": 64, "rater": "all", "channels": 1}
    samples = load_checked_set(study_of_segmenters(**own).data, 0).samples  # writing 3900 files takes a minute
    assert Counter(len(sample.masks) for sample in samples) == {4: 650}
    groups = [{sample.group for sample in samples if sample.split == split} for split in ("train", "val", "test")]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
