"""Which cross-fitted judges judge an image: those that have not seen the pair of its mask."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet, Row
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.evaluation.judges import judged_by
from pipeline.methods.image_metrics import faithfulness
from pipeline.stages.score.params import Score
from pipeline.study import Params

FOLDS = {"a": 0, "b": 1, "c": 0}


def judges(source: str, **transform: Any) -> tuple[int, ...]:
    return judges_of({"id": "x", "source_id": source, "transform": json.dumps(transform)})


def judges_of(row: Row) -> tuple[int, ...]:
    return judged_by([row], FOLDS, 2)[0]


def test_the_judge_of_a_fold_judges_what_comes_from_it() -> None:
    assert (judges("a"), judges("b"), judges("c", method="elastic", alpha=3.0)) == ((0,), (1,), (0,))
    assert judges("shapes", method="shapes", drawn_from="b", shapes=[{"label": 1}]) == (1,)


def test_several_pairs_of_one_fold_have_one_judge() -> None:
    assert judges("mixed", sources=["a", {"name": "c"}]) == (0,)


def test_both_judge_where_no_judge_is_left_or_no_pair_is_named() -> None:
    assert judges("mixed", sources=["a", "b"]) == (0, 1)
    assert judges("bank/a") == (0, 1)
    assert judges_of({"id": "t", "source_id": "t"}) == (0, 1)  # a held-out real image
    assert judges_of({"id": "t", "source_id": None, "transform": ""}) == (0, 1)


def test_a_judge_that_saw_the_background_does_not_judge_alone() -> None:
    kept = {"id": "x", "source_id": "a", "background_id": "b", "placed": "[]"}
    assert judges_of(kept) == (0, 1)  # each has seen a part
    assert judges_of(kept | {"background_id": "c"}) == (0,)
    assert judges_of(kept | {"source_id": "bank/1"}) == (1,)
    assert judges_of(kept | {"background_id": "c", "placed": '[{"source_id": "b"}]'}) == (0, 1)
    with pytest.raises(UserError, match="x: the column placed does not hold a JSON list of placed masks"):
        judges_of(kept | {"placed": '["b"]'})


def test_one_judge_judges_everything() -> None:
    assert judged_by([{"id": "x", "source_id": "a"}] * 2, None, 1) == [(0,), (0,)]


class Sees:
    """A judge to which everything is foreground, or nothing."""

    def __init__(self, label: int) -> None:
        self.label, self.id = label, f"sees{label}"

    def __call__(self, images: torch.Tensor) -> NDArray[np.uint8]:
        return np.full((len(images), *images.shape[2:]), self.label, np.uint8)


@pytest.fixture
def store(toy_study: Params, tmp_path: Path) -> FeatureCache:
    """Judge 0 sees nothing, judge 1 foreground everywhere; the first four training pairs are fold 0."""
    train = ImageSet.open(paths.real("toy")).split("train")
    folds = {name: int(number >= 4) for number, name in enumerate(train.ids)}
    probes = {"judge/0": Sees(0), "judge/1": Sees(1)}
    settings = Score(resamples=100)
    return FeatureCache(probes, {}, {}, settings, 0, Runtime(torch.device("cpu")), tmp_path / "cache", folds=folds)


def test_each_image_is_predicted_by_its_judges(store: FeatureCache) -> None:
    real, synthetic = ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))
    found = store.predictions(synthetic)
    assert [one.shape[0] for one in found] == [1] * 16
    assert [int(one.max()) for one in found] == [0] * 8 + [1] * 8
    held_out = store.predictions(real.split("test"))
    assert [one[:, 0, 0].tolist() for one in held_out] == [[0, 1]] * 4


def test_dice_is_that_of_the_image_s_judge_and_their_mean_on_held_out_images(store: FeatureCache) -> None:
    real, synthetic = ImageSet.open(paths.real("toy")), ImageSet.open(paths.synthetic("toy", "siamese"))
    areas = [float((synthetic.mask(row) > 0).mean()) for row in synthetic]
    everything = [2 * area / (1 + area) for area in areas]
    assert faithfulness.dice(synthetic, store) == pytest.approx([0.0] * 8 + everything[8:])
    columns = faithfulness.per_image(real, synthetic, store)
    assert columns["judges"] == ["0"] * 8 + ["1"] * 8
    test = real.split("test")
    reach = [float((test.mask(row) > 0).mean()) for row in test]
    assert faithfulness.dice(test, store) == pytest.approx(
        [area / (1 + area) for area in reach]
    )  # half of the second's
    none = synthetic.select({**row, "source_id": "bank/file"} for row in synthetic)
    assert faithfulness.per_image(real, none, store)["judges"] == ["0+1"] * 16
