"""Cross-fitted judges: copies of training images look as faithful as held-out images do, and no training is lost."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.core import files, paths, seeding, tables
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.core.section import parse
from pipeline.data.image_set import ImageSet, Row
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.stages.judge import folds, judge, train
from pipeline.stages.score.score import score
from pipeline.study import Params
from tests.conftest import TOY_STUDY

SPEC = DatasetSpec(name="noisy", size=16)
RADII = 2.5, 6.0  # of the lesion by one annotator and by the other
HELD_OUT = 40
STEPS = 150  # in which the network below learns a wrong mask by heart


def study(cross_fit: bool | None, **judge: Any) -> Params:
    options = {"segmenter": "unet"} | judge | ({} if cross_fit is None else {"cross_fit": cross_fit})
    segmenters = {"unet": {"method": "unet_plain32", "width": 16, "stretch": False}}
    segment = TOY_STUDY["segment"] | {"batch_size": 8, "learning_rate": 2e-3, "weight_decay": 0.0}
    changes = {"score": {"metrics": ["faithfulness"], "extractors": [], "resamples": 400}, "judge": options}
    return parse(Params, TOY_STUDY | changes | {"segmenters": segmenters, "segment": segment})


def noisy(split: str, number: int) -> Sample:
    """A plain colour whose mask has the radius of either annotator: it can be learnt by heart and not otherwise."""
    rng = seeding.numpy_rng("noisy", split, number)
    row, column = np.mgrid[:16, :16] - 7.5
    image = rng.integers(0, 128, 3)[:, None, None] + rng.integers(0, 20, (3, 16, 16))
    mask = row**2 + column**2 < RADII[int(rng.integers(2))] ** 2
    return Sample(f"{split}_{number:02d}", image.astype(np.uint8), mask.astype(np.uint8)[None], "", split, "noisy")


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Pairs whose masks are noise, and a generator that repeats the training images for their own masks."""
    monkeypatch.chdir(tmp_path)
    copy_images(12)
    yield 12


def copy_images(count: int, sample: Callable[[str, int], Sample] = noisy) -> None:
    counts = {"train": count, "val": 2, "test": HELD_OUT}
    pairs = ((sample(split, k), {}) for split, number in counts.items() for k in range(number))
    real = ImageSet.create(paths.real("toy"), SPEC, pairs).split("train")
    ImageSet.create(paths.synthetic("toy", "siamese"), SPEC, map(copy_of, real.samples()))


def copy_of(sample: Sample) -> tuple[Sample, Row]:
    about = {"source_id": sample.id, "copy": 0, "generator": "siamese", "synthetic": True}
    return Sample(f"{sample.id}_c0", sample.image, sample.masks, "", "train", "noisy"), about


def faithfulness(params: Params) -> dict[str, Any]:
    """Train the judge, score the copies, and return the scores by name."""
    train.train_judge(params, Runtime.alone(1))
    score(params, "siamese")
    found = files.read_json(paths.scores("toy", "siamese") / "scores.json")
    return {one["name"]: one for one in found}


class Memory:
    """A judge that gives every image the mask of the nearest training image: all it has seen, by heart."""

    about: dict[str, Any] = {}  # noqa: RUF012
    objective = torch.nn.Identity()

    def __init__(self, *_: Any) -> None:
        self.images, self.masks = np.empty(0), np.empty(0)

    def learn(self, pairs: ImageSet) -> "Memory":
        self.images = np.stack([pairs.image(row) for row in pairs])
        self.masks = np.stack([pairs.mask(row) for row in pairs])
        return self

    def predict(self, image: torch.Tensor, num_samples: int = 1) -> torch.Tensor:
        gaps = (torch.from_numpy(self.images).float() - 255 * image[:, None]).square().sum((2, 3, 4))
        found = torch.from_numpy(self.masks)[gaps.argmin(1)].long()
        return torch.nn.functional.one_hot(found, 2).movedim(-1, 1)[:, None].float()

    def save(self, folder: Path) -> None:
        with files.replacing(folder / "memory.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, images=self.images, masks=self.masks)

    def load(self, folder: Path) -> None:
        with np.load(folder / "memory.npz") as held:
            self.images, self.masks = held["images"], held["masks"]


@pytest.fixture
def memorising(copied: int, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Judges are memories; the ids that each training learnt."""
    learnt: list[list[str]] = []

    def learn(*arguments: Any) -> tuple[Memory, list[dict[str, float]]]:
        pairs = arguments[3]
        learnt.append(pairs.ids)
        return Memory().learn(pairs), [{"loss": 0.0}]

    monkeypatch.setattr(train, "train_segmenter", learn)
    for module in (train, judge):
        monkeypatch.setattr(module, "build_segmenter", Memory)
    return learnt


@pytest.mark.usefixtures("memorising")
def test_copies_deceive_one_judge_but_not_cross_fitted_ones() -> None:
    """One judge finds the copies perfect; two give them what held-out images get, within its interval."""
    copy_images(40)
    deceived = faithfulness(study(cross_fit=False))
    assert deceived["faithfulness"]["value"] == 1
    assert deceived["judge_dice"]["high"] < 0.85
    honest = faithfulness(study(cross_fit=True))
    assert honest["judge_dice"]["low"] < honest["faithfulness"]["value"] < honest["judge_dice"]["high"]
    reached = files.read_json(paths.judge("toy") / "metrics.json")
    assert honest["judge_dice"]["value"] == pytest.approx(reached["dice"])
    assert (reached["fold_0"]["dice"] + reached["fold_1"]["dice"]) / 2 == pytest.approx(reached["dice"])


def bright(split: str, number: int) -> Sample:
    """A grey disc and its mask, but the first training pair: its disc is red, and its mask far too large."""
    wrong = (split, number) == ("train", 0)
    rng = seeding.numpy_rng("bright", split, number)
    row, column = np.mgrid[:16, :16] - rng.uniform(6, 10, 2)[:, None, None]
    image, distance = rng.integers(0, 40, (3, 16, 16)), row**2 + column**2
    image[: 1 if wrong else 3, distance < RADII[0] ** 2] += 150
    mask = distance < RADII[wrong] ** 2
    return Sample(f"{split}_{number:02d}", image.astype(np.uint8), mask.astype(np.uint8)[None], "", split, "noisy")


@pytest.mark.usefixtures("copied")
def test_a_wrong_mask_that_a_network_learnt_by_heart_looks_faithful_to_it_alone() -> None:
    copy_images(12, bright)
    for cross_fit in (False, True):
        scores = faithfulness(study(cross_fit=cross_fit, max_steps=STEPS))
        wrong, *right = (float(row["dice"]) for row in tables.read_table(paths.scores("toy", "siamese") / "images.csv"))
        assert scores["judge_dice"]["value"] > 0.7
        assert np.mean(right) > 0.7
        assert wrong < 0.5 if cross_fit else wrong > 0.75


def test_each_half_is_learnt_by_the_judge_of_the_other_and_published(memorising: list[list[str]]) -> None:
    train.train_judge(study(cross_fit=True), Runtime.alone(1))
    halves = folds.read(paths.judge("toy"))
    assert halves is not None
    assert [sorted(ids) for ids in memorising] == [
        sorted(name for name, fold in halves.items() if fold != judged) for judged in range(2)
    ]
    published = {path.relative_to(paths.judge("toy")).as_posix() for path in paths.judge("toy").rglob("*")}
    inside = {f"fold_{k}{name}" for k in range(2) for name in ("", "/losses.csv", "/memory.npz")}
    assert published == inside | {"folds.csv", "scores.csv", "metrics.json", files.SEAL}


@pytest.mark.usefixtures("memorising")
def test_scores_csv_holds_the_means_of_both_judges() -> None:
    params, real = study(cross_fit=True), ImageSet.open(paths.real("toy"))
    train.train_judge(params, Runtime.alone(1))
    judges = judge.load_judges(params.judge, params.segmenters, "toy", real).segmenters
    each = [train.score_set(one, real.split("test"), params.segment) for one in judges]
    rows = tables.read_table(paths.judge("toy") / "scores.csv")
    assert [row["image"] for row in rows] == real.split("test").ids
    assert [float(row["dice"]) for row in rows] == pytest.approx(
        [(one["dice"] + other["dice"]) / 2 for one, other in zip(*each, strict=True)], abs=1e-6
    )


def test_a_kill_between_the_judges_loses_no_finished_one(
    memorising: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    learn = train.train_segmenter

    def dies(*arguments: Any) -> Any:
        if memorising:
            raise KeyboardInterrupt
        return learn(*arguments)

    monkeypatch.setattr(train, "train_segmenter", dies)
    with pytest.raises(KeyboardInterrupt):
        train.train_judge(study(cross_fit=True), Runtime.alone(1))
    assert not paths.judge("toy").exists()
    monkeypatch.setattr(train, "train_segmenter", learn)
    train.train_judge(study(cross_fit=True), Runtime.alone(1))
    assert len(memorising) == 2
    resumed = files.tree_sha256(paths.judge("toy"))
    train.train_judge(study(cross_fit=True), Runtime.alone(1))
    assert len(memorising) == 2
    assert files.tree_sha256(paths.judge("toy")) == resumed


def test_a_damaged_judge_is_trained_again(memorising: list[list[str]]) -> None:
    train.train_judge(study(cross_fit=True), Runtime.alone(1))
    (work,) = Path("work").glob("judge-*")
    (work / "fold_1" / "memory.npz").unlink()
    (work / "fold_1" / "memory.npz").write_bytes(b"")
    train.train_judge(study(cross_fit=True), Runtime.alone(1))
    assert len(memorising) == 3
    assert memorising[2] == memorising[1]


def test_without_the_key_there_is_one_judge_of_all_pairs(memorising: list[list[str]]) -> None:
    train.train_judge(study(cross_fit=None), Runtime.alone(1))
    assert [len(ids) for ids in memorising] == [12]
    names = {path.name for path in paths.judge("toy").iterdir()}
    assert names == {"memory.npz", "losses.csv", "scores.csv", "metrics.json", files.SEAL}
    assert files.read_json(paths.judge("toy") / "metrics.json").keys() == {"dice", "iou", "n", "left_out"}
    assert study(cross_fit=None) == study(cross_fit=False)


@pytest.mark.usefixtures("memorising")
def test_judges_of_other_settings_or_pairs_are_refused() -> None:
    one, two = study(cross_fit=False), study(cross_fit=True)
    train.train_judge(one, Runtime.alone(1))
    with pytest.raises(UserError, match=r"cross_fit is true, but .* has no folds.csv; run the stage judge again"):
        score(two, "siamese")
    train.train_judge(two, Runtime.alone(1))
    with pytest.raises(UserError, match=r"cross_fit is false, but .* has a folds.csv; run the stage judge again"):
        score(one, "siamese")
    copy_images(13)
    with pytest.raises(UserError, match=r"folds.csv lists other pairs than .*real; run the stage judge again"):
        score(two, "siamese")


def test_too_few_pairs_are_refused_before_anything_is_trained(memorising: list[list[str]]) -> None:
    copy_images(1)
    with pytest.raises(UserError, match=r"judge\.cross_fit needs training pairs of at least two groups, found 1 in"):
        train.train_judge(study(cross_fit=True), Runtime.alone(1))
    assert memorising == []
