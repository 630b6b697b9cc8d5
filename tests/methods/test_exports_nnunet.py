"""nnU-Net v2: its integrity check restated, and folds that keep synthetic cases away from their sources."""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.core.errors import UserError
from pipeline.methods.exports.nnunet import folds
from tests.exported import ignore_pixels, run, splits, write_study


@pytest.fixture(autouse=True, params=[2, 3])
def num_classes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(tmp_path)
    write_study(request.param)
    return request.param


def faults(folder: Path) -> Iterator[str]:
    """The rules of nnU-Net's verify_dataset_integrity for NaturalImage2DIO, restated."""
    about = json.loads((folder / "dataset.json").read_text())
    if "dataset" in about or {"channel_names", "labels", "numTraining", "file_ending"} - about.keys():
        yield "keys"
    if about["file_ending"] != ".png" or about["overwrite_image_reader_writer"] != "NaturalImage2DIO":
        yield "reader"
    labels = list(about["labels"].values())
    if about["labels"]["background"] != 0 or labels != list(range(len(labels))):
        yield "labels are not consecutive"
    yield from case_faults(folder, about, labels)


def case_faults(folder: Path, about: dict[str, Any], labels: list[int]) -> Iterator[str]:
    names = sorted(path.name for path in (folder / "imagesTr").iterdir())
    cases = {name[: -len("_0000.png")] for name in names}
    if len(cases) != about["numTraining"] or any(not re.fullmatch(r".+_0000\.png", name) for name in names):
        yield "number of training cases"
    if cases != {path.name.removesuffix(".png") for path in (folder / "labelsTr").iterdir()}:
        yield "labels of other cases"
    for case in cases:
        image = np.asarray(Image.open(folder / "imagesTr" / f"{case}_0000.png"))
        label = np.asarray(Image.open(folder / "labelsTr" / f"{case}.png"))
        if image.shape != (*label.shape, len(about["channel_names"])) or label.ndim != 2:
            yield f"{case}: shapes"
        if not set(np.unique(label).tolist()) <= set(labels):
            yield f"{case}: labels"


def dataset(*arguments: str, name: str = "siamese_x2") -> Path:
    return run("nnunet", *arguments) / f"Dataset501_toy_{name}"


def test_the_integrity_check_passes(num_classes: int) -> None:
    folder = dataset()
    assert list(faults(folder)) == []
    about = json.loads((folder / "dataset.json").read_text())
    assert about["numTraining"] == 8 + 16 + 3  # real and synthetic ones, and those of the validation split
    assert len(about["labels"]) == num_classes
    assert about["channel_names"] == {"0": "R", "1": "G", "2": "B"}


def test_every_pair_is_there_pixel_by_pixel() -> None:
    folder = dataset()
    for split, images in splits().items():
        kind = "Ts" if split == "test" else "Tr"
        for row in images:
            image = np.asarray(Image.open(folder / f"images{kind}" / f"{row['id']}_0000.png"))
            label = np.asarray(Image.open(folder / f"labels{kind}" / f"{row['id']}.png"))
            assert np.array_equal(np.moveaxis(image, -1, 0), images.image(row))
            assert np.array_equal(label, images.mask(row))
    assert len(list((folder / "imagesTs").iterdir())) == 4


def test_ignored_pixels_get_the_label_after_the_last_class(num_classes: int) -> None:
    ignore_pixels()
    folder = dataset()
    assert list(faults(folder)) == []
    assert json.loads((folder / "dataset.json").read_text())["labels"]["ignore"] == num_classes
    label = np.asarray(Image.open(folder / "labelsTr" / "train_0_c0.png"))
    assert (label[:3] == num_classes).all() and label[3:].max() < num_classes


def test_folds_validate_on_every_real_case_once_and_on_no_synthetic_one() -> None:
    chosen = json.loads((dataset() / "splits_final.json").read_text())
    assert [len(fold["val"]) for fold in chosen] == [3, 2, 2, 2, 2]
    real = [row["id"] for split in ("train", "val") for row in splits()[split] if not row["synthetic"]]
    assert sorted(case for fold in chosen for case in fold["val"]) == sorted(real)


def test_a_synthetic_case_trains_in_every_fold_but_that_of_its_source() -> None:
    chosen = json.loads((dataset() / "splits_final.json").read_text())
    for row in splits()["train"]:
        if row["synthetic"]:
            absent = [fold for fold in chosen if row["id"] not in fold["train"]]
            assert len(absent) == 1
            assert row["source_id"] in absent[0]["val"]
    for fold in chosen:
        assert not set(fold["train"]) & set(fold["val"])


def test_the_flag_of_synthetic_cases_is_kept() -> None:
    with (dataset() / "cases.csv").open() as file:
        rows = {row["case"]: row for row in csv.DictReader(file)}
    assert len(rows) == 27 + 4
    assert sum(row["synthetic"] == "True" for row in rows.values()) == 16
    assert rows["train_3_c1"]["source_id"] == "train_3"
    assert rows["test_0"]["split"] == "test"


def test_number_and_folds_are_the_users(num_classes: int) -> None:
    folder = run("nnunet", "--real", "--dataset-id", "7", "--folds", "3") / "Dataset007_toy_real"
    assert [len(fold["val"]) for fold in json.loads((folder / "splits_final.json").read_text())] == [4, 4, 3]
    assert list(faults(folder)) == []


def test_another_seed_deals_other_folds() -> None:
    first = run("nnunet", "--seed", "1", out="a") / "Dataset501_toy_siamese_x2" / "splits_final.json"
    second = run("nnunet", "--seed", "2", out="b") / "Dataset501_toy_siamese_x2" / "splits_final.json"
    assert first.read_text() != second.read_text()


def test_synthetic_images_alone_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    run("nnunet", "--generator", "siamese", status=2)
    assert "5 folds need as many different real images to validate on, found 0" in capsys.readouterr().err
    assert not Path("out").exists()


def row(name: str, content: str, source: str | None = None) -> dict[str, Any]:
    return {"id": name, "sha256": content, "source_id": source or name, "synthetic": source is not None}


def test_equal_images_share_a_fold_and_so_do_what_is_made_of_them() -> None:
    rows = [row("a", "1"), row("a_again", "1"), row("b", "2"), row("a_c0", "3", "a_again"), row("drawn", "4", "none")]
    chosen = sorted(folds(rows, 2, seed=0), key=lambda fold: fold["val"])
    assert chosen == [
        {"train": ["b", "drawn"], "val": ["a", "a_again"]},
        {"train": ["a", "a_again", "a_c0", "drawn"], "val": ["b"]},
    ]
    with pytest.raises(UserError, match="found 2; lower --folds"):
        folds(rows, 3, seed=0)


def test_a_case_does_not_train_where_its_background_validates() -> None:
    kept = row("kept", "3", "a") | {"background_id": "b", "placed": '[{"source_id": "a", "shift": [1, 2]}]'}
    foreign = row("foreign", "4", "bank/1") | {"background_id": "a", "placed": "[]"}
    rows = [row("a", "1"), row("b", "2"), row("c", "5"), kept, foreign]
    trained = {fold["val"][0]: fold["train"] for fold in folds(rows, 3, seed=0)}
    assert trained == {"a": ["b", "c"], "b": ["a", "c", "foreign"], "c": ["a", "b", "kept", "foreign"]}
