"""Scores of single images: the rule for empty masks, thresholded Jaccard, masks of the images' own size."""

from math import hypot
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.files import sha256
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.segmentation.params import Segment
from pipeline.segmentation.scoring import image_scores, score_set
from pipeline.stages.prepare.prepare import prepare
from pipeline.stages.segment import protocol
from pipeline.study import Params
from tests.conftest import TOY_STUDY
from tests.drawn_pairs import HEIGHT, WIDTH, folder, rectangle, save, study

EMPTY, FULL = np.zeros((3, 4), np.uint8), np.ones((3, 4), np.uint8)


def sure(labels: np.ndarray, num_classes: int = 2) -> np.ndarray:
    return np.moveaxis(np.eye(num_classes, dtype=np.float32)[labels], -1, 0)


def segment(**own: Any) -> Segment:
    return parse(Segment, TOY_STUDY["segment"] | own)


class Quarter:
    """Finds the upper left quarter of every image."""

    def predict(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        chance = torch.zeros(len(image), 1, 2, height, width)
        chance[:, :, 0] = 1
        chance[..., : height // 2, : width // 2] = torch.tensor([0.0, 1.0])[:, None, None]
        return chance


def test_nothing_there_and_nothing_found() -> None:
    scores = image_scores(sure(EMPTY), EMPTY)
    assert [scores[name] for name in protocol.METRICS] == [1, 1, 1, 1, 0, 0, 0]  # the sweep scores 0, as published


@pytest.mark.parametrize(("found", "true"), [(FULL, EMPTY), (EMPTY, FULL)])
def test_something_there_or_found_but_not_both(found: np.ndarray, true: np.ndarray) -> None:
    scores = image_scores(sure(found), true)
    assert [scores[name] for name in protocol.METRICS[:5]] == [0, 0, 0, 0, 5]  # the diagonal of 3 x 4
    assert (scores["dice_swept"] > 0) == bool(true.any())  # a constant map is all lesion at the threshold 0


def test_classes_without_a_pixel_count_as_found_where_nothing_was_found() -> None:
    true = np.array([[1, 1, 0, 0]], np.uint8)
    scores = image_scores(sure(true, 3), true)
    assert scores["dice"] == scores["dice_1"] == scores["dice_2"] == scores["nsd_2"] == 1
    assert scores["hd95"] == scores["hd95_2"] == 0
    assert scores["dice_swept"] is scores["iou_swept"] is None
    missed = image_scores(sure(np.array([[1, 1, 2, 0]], np.uint8), 3), true)
    assert (missed["dice_1"], missed["dice_2"], missed["dice"]) == (1, 0, 0.5)
    assert missed["hd95_2"] == pytest.approx(hypot(1, 4), abs=1e-6)


@pytest.mark.parametrize(("hit", "iou", "counted"), [(13, 0.65, 0.65), (12, 0.6, 0.0)])
def test_jaccard_counts_from_65_percent_on(hit: int, iou: float, counted: float) -> None:
    true, found = np.ones((1, 20), np.uint8), np.zeros((1, 20), np.uint8)
    found[:, :hit] = 1
    scores = image_scores(sure(found), true)
    assert (scores["iou"], scores["jaccard_65"]) == (iou, counted)


def test_half_a_chance_is_no_lesion() -> None:
    chance = np.array([[[0.5, 0.49]], [[0.5, 0.51]]], np.float32)
    assert image_scores(chance, np.array([[0, 1]], np.uint8))["dice"] == 1


def test_masks_of_their_own_size_are_kept_for_validation_and_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = folder(tmp_path / "set", train="a b", val="c d", test="e f")
    monkeypatch.chdir(tmp_path)
    without = prepare(study(root=root))
    assert not (without.folder / "native").exists()
    images = prepare(study(root=root, native_masks=True))
    for plain, row in zip(without, images, strict=True):
        own = {key: row[key] for key in row if key not in ("native_mask", "native_mask_sha256")}
        assert own == plain
        assert ("native_mask" in row) == (row["split"] != "train")
    for row in images.split("test"):
        assert np.array_equal(images.native_mask(row), rectangle(1))
    with pytest.raises(UserError, match="has no mask of its own size"):
        _ = images.split("train").native_columns


def test_scores_at_native_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "set", train="a b", val="c d", test="e f")
    monkeypatch.chdir(tmp_path)
    prepare(study(root=root, native_masks=True))
    test = ImageSet.open(paths.real("drawn")).split("test")
    for resolution in ("training", "native"):
        scores = score_set(Quarter(), test, segment(resolution=resolution))  # type: ignore[arg-type]
        assert [(row["dice"], row["hd95"], row["area"]) for row in scores] == [(1, 0, 0.25)] * 2
    files = [test.folder / row["native_mask"] for row in test]
    for path in files:  # the same masks, four rows longer
        mask = rectangle(1)
        mask[: HEIGHT // 2 + 4, : WIDTH // 2] = 1
        save(path, mask)
    hashes = [{"native_mask_sha256": sha256(path)} for path in files]
    test = test.select(row | own for row, own in zip(test, hashes, strict=True))
    native = segment(resolution="native", nsd_tolerance=0.001)
    assert [row["hd95"] for row in score_set(Quarter(), test, native)] == [4, 4]  # type: ignore[arg-type]
    in_mm = segment(resolution="native", spacing=[0.5, 2.0])
    assert [row["hd95"] for row in score_set(Quarter(), test, in_mm)] == [2, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("own", [{"spacing": [1, 1]}, {"spacing": [0, 1], "resolution": "native"}])
def test_spacing_is_that_of_native_pixels(own: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="spacing is the size of original pixels in mm"):
        segment(**own)


def test_native_scores_need_native_masks() -> None:
    with pytest.raises(UserError, match=r"resolution: native of section segment needs data.native_masks: true"):
        parse(Params, TOY_STUDY | {"segment": TOY_STUDY["segment"] | {"resolution": "native"}})
