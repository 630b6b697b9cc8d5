"""The keys `limit` and `limit_draw` of params.yaml: how many real training pairs an arm or a generator gets to see.

Which pairs these are is decided by `pipeline.data.limited`.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator
from pydantic_core.core_schema import SerializerFunctionWrapHandler

UNUSED: dict[str, Any] = {"limit": None, "limit_draw": 0}  # values that are left out of a section


class PairLimit(NamedTuple):
    """The first `pairs` real training pairs of the order that belongs to a draw."""

    pairs: int
    draw: int = 0

    def __str__(self) -> str:
        return f"{self.pairs} pairs" + (f" (draw {self.draw})" if self.draw else "")


def recorded_limit(row: Mapping[str, Any]) -> PairLimit | None:
    """Return the limit of the generator of a synthetic image, by the columns of its row; None for no limit."""
    return PairLimit(row["limit"], row.get("limit_draw", 0)) if row.get("limit") else None


class Limited(BaseModel):
    """A section that may be restricted to the first real training pairs of a seeded order."""

    model_config = ConfigDict(frozen=True)

    limit: int | None = Field(default=None, gt=0)
    """Number of real training pairs, the first ones of a seeded order, so that a smaller limit takes a subset of those
    of a larger one; `null` for all. Groups (patients) are not divided, so that fewer pairs may be taken.
    """
    limit_draw: int = Field(default=0, ge=0)
    """Number of the order from which `limit` takes the first pairs: another number gives another subset."""

    @property
    def pair_limit(self) -> PairLimit | None:
        """The subset of the real training pairs; None for all of them."""
        return None if self.limit is None else PairLimit(self.limit, self.limit_draw)

    @model_validator(mode="after")
    def a_draw_has_a_limit(self) -> Self:
        if self.limit is None and self.limit_draw:
            raise ValueError(f"limit_draw is {self.limit_draw}, but without limit all pairs are used; set limit too")
        return self

    @model_serializer(mode="wrap")
    def _omit_unused(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later where it is not used, so that earlier fingerprints stay valid."""
        return {key: value for key, value in handler(self).items() if key not in UNUSED or value != UNUSED[key]}


def check_generator_limit(arm: str, arm_limit: PairLimit | None, generator: str, limit: PairLimit | None) -> None:
    """Raise ValueError where a generator has seen real pairs that the arm with its images does not get."""
    if arm_limit is None:
        return
    where = f"training_sets.{arm}.limit is {arm_limit}, but generators.{generator}"
    cure = f"use a generator with limit: {arm_limit.pairs}" + (
        f" and limit_draw: {arm_limit.draw}" if arm_limit.draw else ""
    )
    if limit is None:
        raise ValueError(f"{where} has no limit, so its images would come from pairs that the arm does not get; {cure}")
    if limit.pairs > arm_limit.pairs:
        raise ValueError(f"{where}.limit is {limit}, of which the arm does not get all; {cure} or less")
    if limit.draw != arm_limit.draw:
        raise ValueError(f"{where}.limit is {limit}, another draw of the pairs; {cure} or less")
