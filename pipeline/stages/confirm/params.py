"""The section `confirm` of a study: the fresh seeds with which the chosen arm and the reference are trained again."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Self

from pydantic import Field, model_validator

from pipeline.core.section import Section

FIRST = 100  # where a list that would do begins


class Confirm(Section):
    """Confirmation of the arm that has the highest Dice on validation images."""

    seeds: tuple[int, ...] = Field(min_length=1)
    """Seeds with which the chosen arm, the reference and the best rival are trained again. The grid may train none of
    them.
    """

    @model_validator(mode="after")
    def seeds_differ(self) -> Self:
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds must differ, found {list(self.seeds)}")
        return self


def check_fresh(
    confirm: Confirm, grid: Sequence[int], offsets: Mapping[str, int], trained_again: Iterable[str]
) -> None:
    """Raise ValueError where confirmation would train a seed that the grid trains, with a list that would do.

    `grid` holds segment.seeds, `offsets` the seed_offset of every training set, `trained_again` the training sets that
    may be part of a confirmation: the reference and the arms.
    """
    own = {name: offsets[name] for name in trained_again}
    by_seed: dict[int, str] = {}  # the training set that the grid trains with a seed
    for name, offset in offsets.items():
        for seed in grid:
            by_seed.setdefault(seed + offset, name)
    for seed in confirm.seeds:
        for name, offset in own.items():
            if other := by_seed.get(seed + offset):
                trained = f"the seed {seed}" + (f" + {offset} of {name}" if offset else "")
                raise ValueError(
                    f"confirm.seeds is {list(confirm.seeds)}: the grid already trains {trained} ({other});"
                    f" use for example {_fresh(len(confirm.seeds), by_seed.keys(), set(own.values()))}"
                )


def _fresh(length: int, used: Iterable[int], offsets: Iterable[int]) -> list[int]:
    """Return consecutive seeds of which none, with any of the offsets, is used."""
    taken = {seed - offset for seed in used for offset in offsets}
    start = next(first for first in count(FIRST) if not taken & set(range(first, first + length)))
    return list(range(start, start + length))
