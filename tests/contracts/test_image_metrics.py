"""What every quality metric must do."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.core import paths, plugins
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec, Sample
from pipeline.evaluation.feature_cache import JUDGE, FeatureCache
from pipeline.methods.image_metrics import faithfulness
from pipeline.methods.image_metrics._pieces import pieces
from pipeline.metrics.images.score import ScoreResult, nested
from pipeline.stages.score.params import Score
from pipeline.study import Params
from tests.stand_ins import Thumbnail

EXTRACTOR = "efficientnet_lite0"


class Brightness:
    """A stand-in judge: bright is foreground."""

    id = "brightness"

    def __call__(self, images: torch.Tensor) -> NDArray[np.uint8]:
        return (images.float().mean(1) > 100).to(torch.uint8).numpy()


@pytest.fixture
def sets(toy_study: Params) -> tuple[ImageSet, ImageSet]:
    return ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))


def look(seed: int = 0, **changes: Any) -> FeatureCache:
    settings = Score(
        **{"extractors": (EXTRACTOR,), "resamples": 200, "kid_subsets": 10, "kid_subset_size": 6} | changes
    )
    return FeatureCache(
        {EXTRACTOR: Thumbnail(), JUDGE: Brightness()}, {}, {}, settings, seed, Runtime(torch.device("cpu"))
    )


def scored(name: str, sets: tuple[ImageSet, ImageSet], seed: int = 0) -> list[ScoreResult]:
    return plugins.load("image_metrics", name).score(*sets, look(seed))


@pytest.mark.parametrize("name", plugins.names("image_metrics"))
def test_scores_are_complete(name: str, sets: tuple[ImageSet, ImageSet]) -> None:
    scores = scored(name, sets)
    assert scores
    for score in scores:
        assert (score.value is None) == (score.reason is not None)
        assert score.direction in ("lower", "higher")
        assert score.n > 0
        if score.value is not None and score.low is not None and score.high is not None:
            assert math.isfinite(score.value)
            assert score.low <= score.high


@pytest.mark.parametrize("name", plugins.names("image_metrics"))
def test_the_same_seed_gives_the_same_scores(name: str, sets: tuple[ImageSet, ImageSet]) -> None:
    assert scored(name, sets, seed=3) == scored(name, sets, seed=3)


@pytest.mark.parametrize("name", plugins.names("image_metrics"))
def test_no_two_scores_share_a_place_and_none_has_a_name_of_another_extractor(
    name: str, sets: tuple[ImageSet, ImageSet]
) -> None:
    scores = scored(name, sets)
    keys = [score.key for score in scores]
    assert len(set(keys)) == len(keys)
    told = ["_".join(score.key) for score in scores if score.value is not None]
    assert not any(word in key for key in told for word in ("fid", "kid", "cmmd"))
    assert nested(scores)


@pytest.mark.parametrize("name", ["frechet", "kernel"])
def test_distances_name_extractor_variant_floor_and_n(name: str, sets: tuple[ImageSet, ImageSet]) -> None:
    scores = {score.variant: score for score in scored(name, sets)}
    assert {score.name for score in scores.values()} == {f"{name}.{EXTRACTOR}"}
    assert {variant: score.n for variant, score in scores.items()} == {"train": 8, "train_half": 4, "heldout": 4}
    assert scores["train"].floor is None
    assert scores["heldout"].floor is not None
    assert scores["train_half"].floor is not None


@pytest.mark.parametrize("name", ["frechet", "kernel"])
def test_real_images_as_synthetic_ones_reach_the_floor(name: str, sets: tuple[ImageSet, ImageSet]) -> None:
    real, _ = sets
    scores = {score.variant: score for score in scored(name, (real, real.split("train")))}
    for variant in ("train_half", "heldout"):
        assert scores[variant].value == pytest.approx(scores[variant].floor)


@pytest.mark.parametrize("name", ["frechet", "kernel"])
def test_darker_images_are_further_away(name: str, sets: tuple[ImageSet, ImageSet]) -> None:
    real, synthetic = sets
    pairs = [(synthetic.sample(row), row) for row in synthetic]
    darker = ((replace(s, image=s.image // 4), {k: row[k] for k in ("source_id", "copy")}) for s, row in pairs)
    worse = scored(name, (real, ImageSet.create(paths.synthetic("toy", "dark"), real.spec, darker)))
    for before, after in zip(scored(name, sets), worse, strict=True):
        assert after.value is not None
        assert before.value is not None
        assert after.value > before.value + 0.05


def test_pieces_never_compare_an_image_with_its_own_mask_s_copy_in_halves(sets: tuple[ImageSet, ImageSet]) -> None:
    real, synthetic = sets
    halves = next(p for p in pieces(real, synthetic, look(), EXTRACTOR) if p.variant == "train_half")
    assert halves.stand_in is not None
    both = np.concatenate([halves.real, halves.stand_in])
    assert len(np.unique(both, axis=0)) == 8  # all training images, each once


def test_a_set_too_small_for_a_distance_says_so(sets: tuple[ImageSet, ImageSet]) -> None:
    real, synthetic = sets
    few = synthetic.select(synthetic.rows[:4])  # two masks
    score = scored("frechet", (real, few))[0]
    assert score.value is None
    assert score.reason == "2 images per set; a covariance and its jackknife need 3"


def test_images_that_follow_their_masks_are_faithful(sets: tuple[ImageSet, ImageSet]) -> None:
    scores = {score.name: score for score in scored("faithfulness", sets)}
    assert scores["faithfulness"].value == 1
    assert scores["judge_dice"].value == pytest.approx(1, abs=0.02)
    assert scores["faithfulness_ratio"].value == pytest.approx(1, abs=0.02)
    shuffled = scores["faithfulness_shuffled"]
    assert shuffled.value is not None
    assert shuffled.value < 0.8
    assert scores["faithfulness"].n == 16  # all copies


def test_the_control_pairs_each_image_with_another_mask_and_copies_alike(sets: tuple[ImageSet, ImageSet]) -> None:
    _, synthetic = sets
    other = faithfulness.mismatched_masks(synthetic, np.random.default_rng(0))
    for row in synthetic:
        assert synthetic.rows[other[row["id"]]]["source_id"] != row["source_id"]
    assert len({synthetic.rows[k]["source_id"] for k in other.values()}) == 8  # every mask is used


def test_one_mask_alone_has_no_control(sets: tuple[ImageSet, ImageSet]) -> None:
    real, synthetic = sets
    one = synthetic.select(row for row in synthetic if row["source_id"] == "train_0")
    shuffled = scored("faithfulness", (real, one))[1]
    assert (shuffled.value, shuffled.reason) == (None, "one mask only: no other to shuffle with")


def test_dice_is_averaged_over_the_classes_in_mask_or_prediction(sets: tuple[ImageSet, ImageSet]) -> None:
    _, synthetic = sets
    three = DatasetSpec(name="blobs", size=32, num_classes=3)  # class 2 is nowhere, and nowhere found: no part of it
    found = faithfulness.dice(ImageSet(synthetic.folder, three, synthetic.rows), Inverted())
    assert found.tolist() == [0.0] * 16


def of_five_classes(masks: list[int], split: str = "") -> ImageSet:
    """Images whose mask is full of one class (0: background) of five."""
    spec = DatasetSpec(name="blobs", size=16, num_classes=5)
    samples = (
        (
            Sample(f"five_{k}", np.zeros((3, 16, 16), np.uint8), np.full((1, 16, 16), label, np.uint8), ""),
            {"source_id": f"five_{k}", "copy": 0, "split": split},
        )
        for k, label in enumerate(masks)
    )
    return ImageSet.create(paths.synthetic("toy", f"five{split}"), spec, samples)


class Finds(FeatureCache):
    """A judge that finds a fixed class in each image."""

    def __init__(self, *labels: int) -> None:
        super().__init__({}, {}, {}, Score(resamples=100), 0, Runtime(torch.device("cpu")))
        object.__setattr__(self, "labels", labels)

    def predictions(self, images: ImageSet) -> list[NDArray[np.uint8]]:
        labels: tuple[int, ...] = getattr(self, "labels")  # noqa: B009
        return [np.full((1, 16, 16), labels[k], np.uint8) for k in range(len(images))]


@pytest.mark.usefixtures("toy_study")
def test_a_missed_class_of_five_scores_nothing_and_empty_pairs_are_counted_apart() -> None:
    images = of_five_classes([1, 0, 2, 0])
    store = Finds(0, 0, 2, 3)  # missed; nothing there and nothing found; found; imagined
    np.testing.assert_array_equal(faithfulness.dice(images, store), [0.0, np.nan, 1.0, 0.0])
    assert faithfulness.per_image(images, images, store) == {"dice": [0.0, None, 1.0, 0.0]}
    test = of_five_classes([1, 0, 2, 0], "test")
    scores = {one.name: one for one in faithfulness.score(test, images, store)}
    for name in ("faithfulness", "judge_dice"):
        assert (scores[name].value, scores[name].n, scores[name].left_out) == (pytest.approx(1 / 3), 3, 1)
    assert scores["faithfulness_ratio"].value == pytest.approx(1)


@pytest.mark.usefixtures("toy_study")
def test_a_set_without_any_foreground_has_no_faithfulness() -> None:
    images, test = of_five_classes([0, 0]), of_five_classes([0, 1], "test")
    scores = {one.name: one for one in faithfulness.score(test, images, Finds(0, 0))}
    assert scores["faithfulness"].value is None
    assert scores["faithfulness"].left_out == 2
    assert scores["faithfulness_ratio"].value is None
    assert scores["judge_dice"].value == 0


class Inverted(FeatureCache):
    """A judge that takes background for foreground: Dice 0."""

    def __init__(self) -> None:
        super().__init__({JUDGE: Brightness()}, {}, {}, Score(), 0, Runtime(torch.device("cpu")))

    def predictions(self, images: ImageSet) -> list[NDArray[np.uint8]]:
        return [1 - found for found in super().predictions(images)]
