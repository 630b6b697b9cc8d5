"""Halves of the training pairs: equal, seeded, no group divided; what cannot be halved is named."""

from collections import Counter

import pytest

from pipeline.core import paths
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.sample import DatasetSpec
from pipeline.stages.judge import folds
from pipeline.study import Params
from tests.conftest import blobs


def train(groups: list[str], spec: DatasetSpec) -> ImageSet:
    """Training pairs of these groups; "" is none."""
    pairs = zip(blobs(spec, {"train": len(groups)}), groups, strict=True)
    return ImageSet.create(paths.real("toy"), spec, ((sample, {"group": group}) for (sample, _), group in pairs))


def test_halves_are_equal_and_follow_the_seed(toy_study: Params) -> None:
    pairs = ImageSet.open(paths.real("toy")).split("train")
    halves = folds.assign(pairs, 0)
    assert list(halves) == pairs.ids
    assert Counter(halves.values()) == {0: 4, 1: 4}
    assert halves == folds.assign(pairs.select(reversed(pairs.rows)), 0)
    assert len({tuple(folds.assign(pairs, seed).values()) for seed in range(8)}) > 1
    learnt = folds.others(pairs, halves, 0)
    assert sorted(learnt.ids) == sorted(name for name, fold in halves.items() if fold == 1)


@pytest.mark.usefixtures("toy_study")
def test_no_group_is_divided_and_sizes_are_balanced(spec: DatasetSpec) -> None:
    groups = ["p1"] * 5 + ["p2"] * 3 + ["p3"] * 2 + ["", ""]
    halves = folds.assign(train(groups, spec), 0)
    of_group = {
        group: {halves[f"train_{k}"] for k, one in enumerate(groups) if one == group} for group in groups if group
    }
    assert all(len(found) == 1 for found in of_group.values())
    assert Counter(halves.values()) == {0: 6, 1: 6}


@pytest.mark.usefixtures("toy_study")
@pytest.mark.parametrize(
    ("groups", "found"), [([""], "found 1 in"), (["p1"] * 3, "3 training pairs, all of the group p1")]
)
def test_what_cannot_be_halved_is_named(groups: list[str], found: str, spec: DatasetSpec) -> None:
    with pytest.raises(UserError, match=rf"judge\.cross_fit needs .*{found}.*; set judge\.cross_fit: false"):
        folds.assign(train(groups, spec), 0)


@pytest.mark.usefixtures("toy_study")
def test_a_class_of_one_half_only_is_named() -> None:
    three = DatasetSpec(name="blobs", size=32, num_classes=3)
    rare = [sample for sample, _ in blobs(three, {"train": 6})]
    for sample in rare[1:]:
        sample.masks[sample.masks == 2] = 1
    pairs = ImageSet.create(paths.real("toy"), three, ((sample, {}) for sample in rare))
    with pytest.raises(
        UserError, match=r"learn from 3 of 6 training pairs whose masks never show class 2; set judge\."
    ):
        folds.assign(pairs, 0)
    with pytest.raises(UserError, match="never show class 2"):
        folds.assign(pairs, 1)
