"""Scores of sets with several raters and of volumes, pooled pixels, region sizes, Dice over sampling steps."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.core import files, paths, tables
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.metrics.segmentation.volumes import StructureScores
from pipeline.segmentation import rater_scoring, scoring
from pipeline.segmentation.params import Mark, Segment
from pipeline.segmentation.volume_scoring import volume_scores
from pipeline.stages.mix.mix import mix
from pipeline.stages.segment import cells, grid, protocol, trajectories
from pipeline.stages.segment.rgb import GAP
from pipeline.stages.segment.sample_pictures import picture
from pipeline.study import Params
from tests.conftest import TOY_STUDY

SIDE = 8


def segment(**own: Any) -> Segment:
    return parse(Segment, TOY_STUDY["segment"] | own)


def rows_of(count: int, side: int = SIDE) -> np.ndarray:
    """A mask whose first rows are foreground."""
    mask = np.zeros((side, side), np.uint8)
    mask[:count] = 1
    return mask


class Rows:
    """Finds the first two rows; its second sample is the first four, its last step of two the better one."""

    about: dict[str, Any]
    objective = nn.Identity()

    def __init__(self, stochastic: bool = True) -> None:
        self.about = {"stochastic": stochastic, "weights": {"source": "none"}}
        self.asked: list[tuple[int, int]] = []

    def predict(self, image: Tensor, num_samples: int = 1) -> Tensor:
        self.asked.append((len(image), num_samples))
        counts = (2, 4, 0)[:num_samples]
        return torch.stack([self._chance(image, count) for count in counts], 1)

    def trajectory(self, image: Tensor) -> Tensor:
        return torch.stack([self._chance(image, count) for count in (1, 2)])

    def _chance(self, image: Tensor, count: int) -> Tensor:
        chance = torch.zeros(len(image), 2, *image.shape[2:])
        chance[:, 1, ..., :count, :] = 1
        chance[:, 0] = 1 - chance[:, 1]
        return chance

    def augment(self, train: Any) -> None:
        return None


def rated(folder: Path, raters: int = 2) -> ImageSet:
    """Grey images of which rater r marks 2 + 2 r rows; two per split."""
    spec = DatasetSpec(name="rated", size=SIDE, channels=1, raters=raters)
    masks = np.stack([rows_of(2 + 2 * rater) for rater in range(raters)])

    def samples() -> Iterator[tuple[Sample, dict[str, Any]]]:
        for split in ("train", "val", "test"):
            for number in range(2):
                grey = 10 * number + {"train": 0, "val": 1, "test": 2}[split]  # no image is held out and trained on
                image = np.full((1, SIDE, SIDE), grey, np.uint8)
                yield Sample(f"{split}_{number}", image, masks, "", split, "rated"), {}

    return ImageSet.create(folder, spec, samples())


def volumes(folder: Path) -> ImageSet:
    """Two volumes of 2 x 8 x 8 voxels of 5 x 1 x 2 mm, whose first four, or no, rows are foreground."""
    shape = (2, SIDE, SIDE)
    spec = DatasetSpec(name="drawn", size=0, channels=1, ndim=3, shape=shape, spacing=(5.0, 1.0, 2.0))
    affine, images = np.diag([5.0, 1.0, 2.0, 1.0]), np.zeros((1, *shape), np.float32)
    masks = {n: np.stack([rows_of(n)] * 2)[None] for n in (0, 4)}
    samples = [Sample(f"v{n}", images, mask, "", "test", "drawn", affine=affine) for n, mask in masks.items()]
    return ImageSet.create(folder, spec, ((sample, {}) for sample in samples))


def test_several_raters(tmp_path: Path) -> None:
    images, segmenter = rated(tmp_path).split("test"), Rows()
    first, second = scoring.score_set(segmenter, images, segment(num_samples=2))  # type: ignore[arg-type]
    assert segmenter.asked == [(2, 2)]
    assert set(first) == {"split", "test_set", "image", "area", *protocol.METRICS, *rater_scoring.NAMES}
    assert [first[name] for name in rater_scoring.NAMES[:7]] == [0, 1, 1, 1, 1, 1, 1]  # samples are the raters' masks
    assert [first[name] for name in rater_scoring.NAMES[7:]] == [0, 0, 0]  # and no set is empty
    assert first["area"] == 4 / SIDE  # raters who differ: the structure where they tie
    assert first["dice"] == pytest.approx(2 / 3)  # a mean chance of one half is no foreground
    alone = scoring.score_set(segmenter, images, segment())[0]  # type: ignore[arg-type]
    assert alone["ged"] == pytest.approx(2 * (1 - 3 / 4) - 0 - 2 * (1 / 2) / 4)
    assert second | {"image": first["image"]} == first


def test_shares_of_empty_sets_over_classes_and_images() -> None:
    """Class 1 is found where no rater sees it, class 2 is missed; then the shares of the images of a test set."""
    samples, raters = np.ones((2, 4, 4), np.int64), np.full((3, 4, 4), 2, np.uint8)
    found = rater_scoring.rater_scores(samples, raters, 3, segment())
    assert (found["empty_both"], found["empty_raters"], found["empty_samples"]) == (0, 0.5, 0.5)
    common = {name: 0.0 for name in (*protocol.METRICS, *rater_scoring.NAMES)} | {"area": 0.1, "split": "test"}
    common |= {"segmenter": "s", "training_set": "real", "seed": 0, "test_set": "t"}
    rows = [common | {"image": str(n), "empty_raters": float(n == 0)} for n in range(4)]
    whole = next(line for line in protocol.summary(rows, segment()) if line["kind"] == "weighted")
    assert (whole["empty_both"], whole["empty_raters"], whole["empty_samples"]) == (0, 0.25, 0)


def test_level_sets_of_a_probability(tmp_path: Path) -> None:
    chance = np.array([[[0.0, 0.1, 0.2, 0.5, 0.6, 0.95]]], np.float32)
    samples, four = np.stack([1 - chance, chance], 1), segment(num_samples=4, level_sets=True)
    found = rater_scoring.sampled_labels(samples, four)  # above 1/8, 3/8, 5/8, 7/8
    assert found[:, 0].tolist() == [[0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 1], [0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 1]]
    assert rater_scoring.sampled_labels(np.concatenate([samples] * 2), four).shape == (
        2,
        1,
        6,
    )  # of one that draws: samples
    images = rated(tmp_path).split("test")
    rows = [scoring.score_set(Rows(stochastic=False), images, segment(num_samples=4, level_sets=on)) for on in (0, 1)]  # type: ignore[arg-type]
    assert rows[0] == rows[1]  # of 0 and 1 every level set is the same mask
    with pytest.raises(UserError, match="level_sets is for two classes; rated has 3"):
        rater_scoring.check_level_sets(four, images.spec.model_copy(update={"num_classes": 3}))


def test_a_segmenter_that_does_not_draw_is_asked_once(tmp_path: Path) -> None:
    segmenter = Rows(stochastic=False)
    scoring.score_set(segmenter, rated(tmp_path).split("test"), segment(num_samples=5))  # type: ignore[arg-type]
    assert segmenter.asked == [(2, 1)]


def test_volumes(tmp_path: Path) -> None:
    images, segmenter = volumes(tmp_path), Rows()
    empty, half = scoring.score_set(segmenter, images, segment())  # type: ignore[arg-type]
    assert segmenter.asked == [(1, 1), (1, 1)]
    voxel, longest = 10 / 1000, (10**2 + 8**2 + 16**2) ** 0.5
    assert (empty["dice"], empty["nsd"], empty["hd95"]) == (0, 0, pytest.approx(longest, abs=1e-6))
    assert (empty["volume"], empty["volume_found"], empty["volume_error"]) == (0, 32 * voxel, 32 * voxel)
    assert (empty["dice_left_out"], empty["hd95_left_out"]) == (0, None)
    assert (half["dice"], half["iou"], half["area"]) == (pytest.approx(2 / 3, abs=1e-6), 0.5, 0.5)
    assert half["hd95"] == half["hd95_left_out"] == 2  # mm along the rows
    assert (half["volume"], half["volume_error"]) == (64 * voxel, 32 * voxel)
    assert half["dice_swept"] is None
    lines = protocol.summary([row | ARM for row in (empty, half)], segment())
    assert protocol.columns(lines)[-1] == "size_rho"
    whole = lines[0]
    assert (whole["hd95_left_out"], whole["dice_left_out"]) == (2, pytest.approx(1 / 3, abs=1e-6))
    assert (whole["size_rho"], whole["volume_error"]) == (None, pytest.approx(0.32))  # one region is there: no rho
    about = protocol.report(lines, segment(), is_volume=True)["about"]
    assert (about["hd95_unit"], about["nsd_tolerance"]) == ("mm", "1 mm")


def test_structures_of_a_volume(tmp_path: Path) -> None:
    spec = DatasetSpec(name="two", size=0, ndim=3, num_classes=3, shape=(1, 2, 2), spacing=(1.0, 1.0, 1000.0))
    found, true = np.array([[[1, 0], [1, 0]]]), np.array([[[1, 1], [0, 0]]], np.uint8)
    row = volume_scores(found, true, spec, tolerance=1.0)
    assert (row["dice_1"], row["dice_2"], row["dice"], row["dice_left_out"]) == (0.5, 1, 0.75, 0.5)
    assert (row["volume"], row["volume_1"], row["volume_found_1"], row["volume_error_2"]) == (2, 2, 2, 0)
    assert set(StructureScores.__dataclass_fields__) <= set(row)


ARM = {"segmenter": "unet", "training_set": "real", "seed": 0, "split": "test"}


def test_pooled_and_per_image() -> None:
    found, true = [rows_of(2, 4), rows_of(1, 4)], [rows_of(4, 4), rows_of(0, 4)]
    rows = []
    for one, other in zip(found, true, strict=True):
        chance = np.stack([1 - one, one]).astype(np.float32)
        scores = scoring.image_scores(chance, other) | scoring.pixel_scores(one, other, 2)
        rows.append(ARM | {"test_set": "a"} | scores)
    assert [(row["se"], row["sp"], row["acc"]) for row in rows] == [(0.5, 1, 0.5), (1, 0.75, 0.75)]
    (line, *_) = protocol.summary(rows, segment())
    assert (line["se"], line["sp"], line["acc"]) == (0.75, 0.875, 0.625)
    # 8 found of 16, 4 false alarms, 12 of 16 right.
    pooled = {"dsc": 16 / (16 + 8 + 4), "se": 8 / 16, "sp": 12 / 16, "acc": 20 / 32}
    assert {name: line[f"{name}_pooled"] for name in pooled} == pytest.approx(pooled, abs=1e-6)
    assert "size_rho" not in line


def test_dice_and_the_size_of_regions() -> None:
    rows = []
    for small, large, dice in ((0.1, 0.5, (0.2, 0.8)), (0.2, 0.4, (0.3, 0.9)), (0.0, 0.3, (1.0, 0.4))):
        row = ARM | {"test_set": "a", "area": small + large} | dict.fromkeys(protocol.METRICS, 0.5)
        row |= {"area_1": small, "area_2": large, "area_3": 0.6, "dice_1": dice[0], "dice_2": dice[1], "dice_3": 0.95}
        rows.append(row)
    (line, *_) = protocol.summary(rows, segment(region_size=True))
    # Sizes .1 .2 | .5 .4 .3 | .6 .6 .6, Dice .2 .3 | .8 .9 .4 | .95: the absent region (Dice 1) is left out.
    assert line["size_rho"] == pytest.approx(1 - 6 * (1 + 1) / (8 * 63), abs=0.01)
    assert line["class_rho"] == 1
    assert scoring.region_sizes(np.array([[0, 1], [1, 2]], np.uint8), 3) == {"area_1": 0.5, "area_2": 0.25}


def test_dice_over_steps(tmp_path: Path) -> None:
    images = rated(tmp_path).split("test")
    found = trajectories.dice_over_steps(Rows(), images, segment(trajectory_images=1, batch_size=1))  # type: ignore[arg-type]
    # One row and two of the four that the raters, who tie, leave to the structure.
    assert [(row["step"], row["n"]) for row in found] == [(1, 1), (2, 1)]
    assert [row["dice"] for row in found] == pytest.approx([0.4, 2 / 3], abs=1e-6)
    assert trajectories.dice_over_steps(object(), images, segment()) == []  # type: ignore[arg-type]


def test_picture_of_raters_above_and_samples_below() -> None:
    raters, samples = np.stack([rows_of(2), rows_of(4)]), np.zeros((3, 2, SIDE, SIDE), np.float32)
    samples[:, 0] = 1
    samples[0, :, 0] = [[0], [1]]
    drawn = picture(np.full((1, SIDE, SIDE), 77, np.uint8), raters, samples.argmax(1), samples.mean(0))
    assert drawn.shape == (2 * (SIDE + GAP) - GAP, 4 * (SIDE + GAP) - GAP, 3)
    cell = SIDE + GAP
    assert (drawn[:SIDE, :SIDE] == 77).all()
    assert np.array_equal(drawn[:SIDE, cell : cell + SIDE, 0], 255 * rows_of(2))
    assert np.array_equal(drawn[cell:, cell : cell + SIDE, 0], 255 * rows_of(1))
    assert (drawn[cell, :SIDE] == 85).all()  # a third of the samples


def test_the_grid_publishes_steps_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cells, "train_segmenter", lambda *_, **__: (Rows(), [{"dice": 1.0}]))
    monkeypatch.setattr(grid, "build_segmenter", lambda *_: Rows())
    rated(paths.real("toy"))
    study = parse(Params, TOY_STUDY | {"training_sets": {"real": {}}})
    mix(study, "real")
    grid.run_grid(study, "unet", Runtime.alone(1))
    folder = paths.segmentation("toy", "unet")
    assert list(tables.read_table(folder / "scores.csv")[0])[-10:] == list(rater_scoring.NAMES)
    steps = tables.read_table(folder / "steps.csv")
    assert [(row["seed"], row["step"], row["dice"]) for row in steps[:3]] == [
        ("0", "1", "0.4"),
        ("0", "2", "0.666667"),
        ("1", "1", "0.4"),
    ]
    assert sorted(path.name for path in (folder / "samples" / "real").iterdir()) == ["test_0.png", "test_1.png"]
    assert {"ged", "ci_printed", "hm_iou"} <= set(files.read_json(folder / "protocol.json")["rows"][0])


def test_masks_of_every_rater_identify_a_cell(tmp_path: Path) -> None:
    images = rated(tmp_path / "a")
    rows = [row | {"raters_sha256": ["x", "y"]} for row in images]
    assert grid.content(images) != grid.content(images.select(rows))


def test_new_parameters_leave_finished_cells_alone() -> None:
    plain, asked = parse(Params, TOY_STUDY), {"num_samples": 4, "pooled": True}
    further = parse(Params, TOY_STUDY | {"segment": TOY_STUDY["segment"] | asked})
    assert plain.segment.training_settings() == further.segment.training_settings()
    assert further.segment.scoring_settings() == plain.segment.scoring_settings() | asked
    assert set(plain.segment.scoring_settings()) == Segment.marked(Mark.SCORES) - Segment.marked(Mark.OMIT_DEFAULT)
