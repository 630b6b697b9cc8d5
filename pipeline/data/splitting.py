"""Splits that the data set does not bring: seeded, grouped, independent of file names' order; and their mending."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.core import seeding

SPLITS = ("train", "val", "test")
HELD_OUT = ("val", "test")
RESERVE = "reserve"  # training pairs beyond data.train_limit: for the ceiling, real training sets with `real: all`


def fill(splits: Sequence[str | None], groups: Sequence[str], shares: Mapping[str, float], seed: int) -> list[str]:
    """One split per image: None means train, and a split of `shares` that no image has is drawn from train.

    A group is never divided. Which groups are drawn depends on their names and the seed, not on their order.
    """
    filled = [split or "train" for split in splits]
    missing = [split for split in shares if split not in filled]
    pool = Counter(group for group, split in zip(groups, filled, strict=True) if split == "train")
    total = pool.total()
    for split in missing:
        for group in _draw(pool, shares[split] * total, seed):
            del pool[group]
            filled = [split if (g, s) == (group, "train") else s for g, s in zip(groups, filled, strict=True)]
    return filled


def _draw(pool: Counter[str], wanted: float, seed: int) -> list[str]:
    """Groups of about `wanted` images: those that still fit, in seeded order; at least the smallest one."""
    chosen: list[str] = []
    left = max(1, round(wanted))
    order = sorted(pool, key=lambda group: seeding.number(seed, "split", group))
    for group in order:
        if pool[group] <= left:
            chosen.append(group)
            left -= pool[group]
    return chosen or sorted(order, key=lambda group: pool[group])[:1]


def deal(groups: Sequence[str], folds: int, seed: int) -> list[int]:
    """The fold of every image, for cross-validation; a group is never divided.

    Groups, the largest first, else in seeded order, each to the fold that has fewest images; their order in the data
    set does not matter.
    """
    sizes, held, fold_of = Counter(groups), [0] * folds, {}
    for group in sorted(sizes, key=lambda group: (-sizes[group], seeding.number(seed, "fold", group))):
        fold_of[group] = held.index(min(held))
        held[fold_of[group]] += sizes[group]
    return [fold_of[group] for group in groups]


def regroup(splits: Sequence[str], groups: Sequence[str], near: Sequence[tuple[int, int]]) -> list[str]:
    """Moves into train every set of near-duplicates that lies in more than one split, with the groups it touches.

    Near-duplicates are chained (a looks like b, b like c: one set), so that none is left across splits. Training data
    grows and the test set shrinks: what is tested was then never trained on.
    """
    first = {group: position for position, group in reversed(list(enumerate(groups)))}
    links = [*near, *((first[group], position) for position, group in enumerate(groups))]
    sets = _connected(len(splits), links)
    across = {sets[i] for i, j in near if splits[i] != splits[j]}
    return ["train" if own in across else split for own, split in zip(sets, splits, strict=True)]


def _connected(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """For every position the number of the set that the links put it into."""
    ends = np.array(links, int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].tolist()
