"""The first pairs of a seeded order: nested for growing limits, in whole groups, another subset for another draw."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from pipeline.core.errors import UserError
from pipeline.core.pair_limit import PairLimit
from pipeline.data.image_set import ImageSet
from pipeline.data.limited import check_limits, training_pairs
from pipeline.data.sample import DatasetSpec
from pipeline.data.splitting import first_groups


def grouped(folder: Path, sizes: list[int]) -> ImageSet:
    """A set without files: training rows in groups of these sizes, and two rows of other splits."""
    groups = [f"g{number}" for number, size in enumerate(sizes) for _ in range(size)]
    rows = [{"id": f"case_{k:03d}", "split": "train", "group": group} for k, group in enumerate(groups)]
    held = [{"id": f"held_{split}", "split": split, "group": "held"} for split in ("val", "reserve")]
    return ImageSet(folder, DatasetSpec(name="x", size=8), (*rows, *held))


def within(real: ImageSet, pairs: int, draw: int = 0, seed: int = 0) -> set[str]:
    return set(training_pairs(real, PairLimit(pairs, draw), seed, "training_sets.x").ids)


def test_single_images_are_taken_exactly_and_nested(tmp_path: Path) -> None:
    real = grouped(tmp_path, [1] * 40)
    taken = [within(real, pairs) for pairs in (1, 5, 6, 20, 40)]
    assert [len(ids) for ids in taken] == [1, 5, 6, 20, 40]
    assert all(smaller < larger for smaller, larger in pairwise(taken))
    assert not any("held" in name for ids in taken for name in ids)


@pytest.mark.parametrize("draw", range(5))
def test_groups_are_whole_and_nested_whatever_their_sizes(draw: int, tmp_path: Path) -> None:
    sizes = np.random.default_rng(draw).integers(1, 9, 30).tolist()
    real = grouped(tmp_path, sizes)
    group_of = {row["id"]: row["group"] for row in real}
    taken = [within(real, pairs, draw) for pairs in range(9, sum(sizes) + 1)]
    for pairs, ids in enumerate(taken, 9):
        assert pairs - 8 <= len(ids) <= pairs
        assert sum(sizes[int(group[1:])] for group in {group_of[name] for name in ids}) == len(ids)
    assert all(smaller <= larger for smaller, larger in pairwise(taken))
    assert len(taken[-1]) == sum(sizes)


def test_another_draw_or_seed_is_another_subset(tmp_path: Path) -> None:
    real = grouped(tmp_path, [1] * 40)
    subsets = [within(real, 10), within(real, 10, draw=1), within(real, 10, seed=1)]
    assert len({frozenset(ids) for ids in subsets}) == 3
    assert within(real, 10) == subsets[0]


def test_the_order_of_two_groups_does_not_depend_on_others() -> None:
    names = [f"g{k}" for k in range(20)]
    first = {name for name, is_first in zip(names, first_groups(names, 5, 0, 0), strict=True) if is_first}
    fewer = [name for name in names if name in first or name == "g19"]
    again = {name for name, is_first in zip(fewer, first_groups(fewer, 5, 0, 0), strict=True) if is_first}
    assert again == first


def test_rows_stay_in_their_order_and_no_limit_is_the_split(tmp_path: Path) -> None:
    real = grouped(tmp_path, [1] * 12)
    assert training_pairs(real, PairLimit(5), 0, "x").ids == sorted(within(real, 5))
    assert training_pairs(real, None, 0, "x").ids == real.split("train").ids


def test_impossible_limits_name_the_numbers(tmp_path: Path) -> None:
    real = grouped(tmp_path, [4] * 3)
    with pytest.raises(UserError, match=r"training_sets\.x\.limit is 13 pairs, but the split train has 12; lower it"):
        within(real, 13)
    with pytest.raises(UserError, match=r"limit is 3 pairs \(draw 2\), but the first group .* is larger; raise limit"):
        within(real, 3, draw=2)
    with pytest.raises(UserError, match=r"generators\.g\.limit is 9 pairs, but the split train has 8"):
        check_limits({"training_sets.t": PairLimit(8), "generators.g": PairLimit(9)}, 8)
