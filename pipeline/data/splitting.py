"""Drawn splits and folds: seeded, grouped, independent of the order of files; and regrouping of near-duplicates."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from pipeline.core import seeding

SPLITS = ("train", "val", "test")
HELD_OUT = ("val", "test")
UNLABELLED = "unlabelled"  # images without masks; they are a set of their own, which the base sees
RESERVE = "reserve"  # training pairs beyond data.train_limit: for the ceiling, real training sets with `real: all`


def assign_splits(
    splits: Sequence[str | None], groups: Sequence[str], shares: Mapping[str, float], seed: int
) -> list[str]:
    """Return one split per image: None means train, and a split of `shares` that no image has is drawn from train.

    A group is never divided. Which groups are drawn depends on their names and the seed, not on their order.
    """
    filled = [split or "train" for split in splits]
    missing = [split for split in shares if split not in filled]
    pool = Counter(group for group, split in zip(groups, filled, strict=True) if split == "train")
    total = pool.total()
    for split in missing:
        for group in draw(pool, shares[split] * total, seed):
            del pool[group]
            filled = [split if (g, s) == (group, "train") else s for g, s in zip(groups, filled, strict=True)]
    return filled


def draw(pool: Counter[str], wanted: float, seed: int) -> list[str]:
    """Return groups of about `wanted` images: those that still fit, in seeded order; at least the smallest one."""
    drawn: list[str] = []
    left = max(1, round(wanted))
    order = sorted(pool, key=lambda group: seeding.number(seed, "split", group))
    for group in order:
        if pool[group] <= left:
            drawn.append(group)
            left -= pool[group]
    return drawn or sorted(order, key=lambda group: pool[group])[:1]


def assign_folds(groups: Sequence[str], folds: int, seed: int) -> list[int]:
    """Return the fold of every image, for cross-validation; a group is never divided.

    Groups go, the largest first and equal ones in seeded order, each to the fold with the fewest images; their order in
    the data set does not matter.
    """
    sizes, counts, fold_of = Counter(groups), [0] * folds, {}
    for group in sorted(sizes, key=lambda group: (-sizes[group], seeding.number(seed, "fold", group))):
        fold_of[group] = counts.index(min(counts))
        counts[fold_of[group]] += sizes[group]
    return [fold_of[group] for group in groups]


def join(groups: Sequence[str], near: Sequence[tuple[int, int]]) -> list[str]:
    """Return the groups in which chains of near-duplicates are one group, named after the first of its names."""
    sets = _chains(groups, near)
    name: dict[int, str] = {}
    for group, number in sorted(zip(groups, sets, strict=True)):
        name.setdefault(number, group)
    return [name[number] for number in sets]


def beyond_limit(groups: Sequence[str], limit: int, seed: int) -> list[bool]:
    """Return which images are beyond a limit that divides no group: groups in seeded order, those that still fit.

    At least the smallest group is within. The order does not depend on the other groups, so that two folds of a data
    set keep mostly the same images.
    """
    within = set(draw(Counter(groups), limit, seed))
    return [group not in within for group in groups]


def first_groups(groups: Sequence[str], limit: int, seed: int, draw: int) -> list[bool]:
    """Return which images are the first ones of the seeded order of a draw; no group is divided.

    Groups are taken in order, up to the first that would exceed the limit, so that those of a smaller limit are always
    among those of a larger one (`beyond_limit` goes on with the groups that still fit, and is not nested). The order of
    two groups does not depend on the others.
    """
    sizes, total = Counter(groups), 0
    within: set[str] = set()
    for group in sorted(sizes, key=lambda group: (seeding.number(seed, "limit", draw, group), group)):
        total += sizes[group]
        if total > limit:
            break
        within.add(group)
    return [group in within for group in groups]


def regroup(splits: Sequence[str], groups: Sequence[str], near: Sequence[tuple[int, int]]) -> list[str]:
    """Move every set of near-duplicates in more than one split into train, with the groups it touches.

    Near-duplicates are chained (a looks like b, b like c: one set), so that none is left across splits. Training data
    grows and the test set shrinks, but no test image was trained on.
    """
    sets = _chains(groups, near)
    across = {sets[i] for i, j in near if splits[i] != splits[j]}
    return ["train" if number in across else split for number, split in zip(sets, splits, strict=True)]


def _chains(groups: Sequence[str], near: Sequence[tuple[int, int]]) -> list[int]:
    """Return for every image the number of the set that near-duplicates and groups chain it to."""
    first = {group: position for position, group in reversed(list(enumerate(groups)))}
    return _components(len(groups), [*near, *((first[group], position) for position, group in enumerate(groups))])


def _components(count: int, links: Sequence[tuple[int, int]]) -> list[int]:
    """Return for every position the number of the connected component that it belongs to."""
    ends = np.array(links, int).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return connected_components(graph, directed=False)[1].tolist()
