"""COCO, read back by pycocotools."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from pipeline.core import files
from pipeline.methods.exports.coco import components, run_lengths
from tests.exported import COUNTS, ignore_pixels, run, splits, write_study


@pytest.fixture(autouse=True, params=[2, 3])
def num_classes(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(tmp_path)
    write_study(request.param)
    return request.param


def test_pycocotools_reads_every_mask_back(num_classes: int) -> None:
    folder = run("coco")
    for split, images in splits().items():
        read = COCO(folder / "annotations" / f"instances_{split}.json")
        assert len(read.getImgIds()) == COUNTS[split]
        assert read.getCatIds() == list(range(1, num_classes))
        for number, row in zip(read.getImgIds(), images, strict=True):
            about = read.loadImgs(number)[0]
            assert (about["case"], about["synthetic"]) == (row["id"], row["synthetic"])
            picture = np.asarray(Image.open(folder / split / about["file_name"]))
            assert np.array_equal(np.moveaxis(picture, -1, 0), images.image(row))
            mask = np.zeros((about["height"], about["width"]), np.uint8)
            for instance in read.loadAnns(read.getAnnIds(number)):
                mask[read.annToMask(instance) > 0] = instance["category_id"]
            assert np.array_equal(mask, images.mask(row))


def test_boxes_and_areas_are_those_of_pycocotools() -> None:
    read = COCO(run("coco") / "annotations" / "instances_train.json")
    instances = read.loadAnns(read.getAnnIds())
    assert len(instances) >= 24
    assert [instance["id"] for instance in instances] == list(range(1, len(instances) + 1))
    for instance in instances:
        runs = read.annToRLE(instance)
        assert instance["area"] == coco_mask.area(runs)
        assert instance["bbox"] == coco_mask.toBbox(runs).tolist()


def test_components_of_a_mask_drawn_by_hand() -> None:
    mask = np.array([[1, 0, 0, 2], [0, 1, 0, 2], [0, 0, 0, 0], [1, 1, 0, 0]], np.uint8)
    found = list(components(mask))
    assert [(one["category_id"], one["bbox"], one["area"]) for one in found] == [
        (1, [0, 0, 2, 2], 2),  # the two pixels touch at a corner
        (1, [0, 3, 2, 1], 2),
        (2, [3, 0, 1, 2], 2),
    ]
    assert found[0]["segmentation"] == {"size": [4, 4], "counts": [0, 1, 4, 1, 10]}
    assert found[2]["segmentation"]["counts"] == [12, 2, 2]
    assert list(components(np.zeros((4, 4), np.uint8))) == []


def test_run_lengths_are_those_of_pycocotools() -> None:
    rng = np.random.default_rng(0)
    shares = [0.0, 1.0, *rng.uniform(0, 1, 50)]
    for share in shares:
        region = rng.random((int(rng.integers(1, 9)), int(rng.integers(1, 9)))) < share
        size = list(region.shape)
        counts = run_lengths(region)
        assert sum(counts) == region.size
        theirs = coco_mask.frPyObjects({"size": size, "counts": counts}, *size)
        assert theirs == coco_mask.encode(np.asfortranarray(region.astype(np.uint8)))


def test_an_image_without_lesion_stays_without_instances() -> None:
    images = splits()["test"]
    row = images.rows[0]
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(images.folder / row["mask"])
    lines = (images.folder / "metadata.jsonl").read_text()
    changed = lines.replace(row["mask_sha256"], files.sha256(images.folder / row["mask"]))
    (images.folder / "metadata.jsonl").write_text(changed)
    written = json.loads((run("coco") / "annotations" / "instances_test.json").read_text())
    assert len(written["images"]) == 4
    assert 1 not in {instance["image_id"] for instance in written["annotations"]}


def test_ignored_pixels_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    ignore_pixels()
    run("coco", status=2)
    assert "the mask of train_0_c0 has ignored pixels, which coco cannot express" in capsys.readouterr().err
    assert not Path("out").exists()
