"""imagefolder and Parquet, read back by Hugging Face's datasets."""

import json
import sys
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from pipeline.methods.exports.parquet import _pyarrow, _schema
from tests.exported import COUNTS, run, splits, write_study

PUBLIC = {"train": "train", "val": "validation", "test": "test"}


@pytest.fixture(autouse=True, params=[2, 3])
def num_classes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(tmp_path)
    write_study(request.param)
    return request.param


def load(format_name: str, *arguments: str) -> Any:
    folder = run(format_name, *arguments)
    if format_name == "imagefolder":
        return datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir="cache")
    return datasets.load_dataset(str(folder), cache_dir="cache")


@pytest.mark.parametrize("format_name", ["imagefolder", "parquet"])
def test_datasets_reads_every_pair_and_flag(format_name: str) -> None:
    loaded = load(format_name, "--shard-size", "10")
    assert {split: len(rows) for split, rows in loaded.items()} == {PUBLIC[s]: n for s, n in COUNTS.items()}
    for split, images in splits().items():
        for row, read in zip(images, loaded[PUBLIC[split]], strict=True):
            assert read["id"] == row["id"]
            assert np.array_equal(np.moveaxis(np.asarray(read["image"]), -1, 0), images.image(row))
            assert np.array_equal(np.asarray(read["mask"]), images.mask(row))
            assert read["synthetic"] is row["synthetic"]
            assert (read["source_id"], read["copy"], read["prompt"]) == (row["source_id"], row["copy"], row["prompt"])
            assert read["generator"] == (row["generator"] or "")
    assert sum(loaded["train"]["synthetic"]) == 16


@pytest.mark.parametrize("format_name", ["imagefolder", "parquet"])
def test_a_generators_images_come_without_real_ones(format_name: str) -> None:
    loaded = load(format_name, "--generator", "siamese")
    assert list(loaded) == ["train"]
    assert all(loaded["train"]["synthetic"])


def test_images_and_masks_are_decoded_and_types_agree_between_formats() -> None:
    folder, table = run("imagefolder", out="a"), run("parquet", out="b")
    first = datasets.load_dataset("imagefolder", data_dir=str(folder), cache_dir="cache")["train"].features
    second = datasets.load_dataset(str(table), cache_dir="cache")["train"].features
    assert first == second
    assert isinstance(second["mask"], datasets.Image)


def test_the_schema_is_that_of_datasets() -> None:
    text = ("id", "prompt", "source", "source_id", "generator", "seed", "sha256", "mask_sha256")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "mask": datasets.Image(),
            **{name: datasets.Value("string") for name in text},
            "copy": datasets.Value("int64"),
            "synthetic": datasets.Value("bool"),
            "more": datasets.Value("string"),
        }
    )
    assert _schema(_pyarrow()).equals(features.arrow_schema)
    assert datasets.Features.from_arrow_schema(_schema(_pyarrow())) == features


def test_shards_hold_a_fixed_number_of_pairs() -> None:
    folder = run("parquet", "--shard-size", "10") / "data"
    names = sorted(path.name for path in folder.iterdir())
    assert names == [
        "test-00000-of-00001.parquet",
        *(f"train-0000{number}-of-00003.parquet" for number in range(3)),
        "validation-00000-of-00001.parquet",
    ]
    arrow = _pyarrow()
    rows = [arrow.parquet.read_metadata(folder / name).num_rows for name in names]
    assert rows == [4, 10, 10, 4, 3]


def test_lines_of_metadata_name_image_and_mask() -> None:
    lines = (run("imagefolder") / "train" / "metadata.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    assert (first["file_name"], first["mask_file_name"]) == ("images/train_0.png", "masks/train_0.png")


def test_a_missing_pyarrow_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    run("parquet", status=2)
    assert "needs the package pyarrow" in capsys.readouterr().err
    assert not Path("out").exists()
