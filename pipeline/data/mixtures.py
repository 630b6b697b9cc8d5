"""How real and synthetic images share a training: in a fixed ratio, in a falling one, or one after the other.

A mixture is a rule without a state: what stands at a position follows from the position alone, so that a training can
be resumed anywhere and dealt to any number of processes.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Union


@dataclass(frozen=True)
class Mixture(ABC):
    """Two groups of pairs, given by their indices, that share the positions of a training; each is shuffled apart.

    The second group may be a mixture itself.
    """

    first: tuple[int, ...]
    second: Union[tuple[int, ...], "Mixture"]

    @abstractmethod
    def seconds(self, positions: int) -> int:
        """Return how many of the first so many positions belong to the second group."""

    def share_at(self, position: int) -> tuple[bool, int]:
        """Return whether a position belongs to the second group, and how many of its group precede it."""
        before, with_it = self.seconds(position), self.seconds(position + 1)
        return (True, before) if with_it > before else (False, position - before)


@dataclass(frozen=True)
class FixedShare(Mixture):
    """The second group has floor(n share) of the first n positions, for every n."""

    share: float  # in (0, 1)

    def seconds(self, positions: int) -> int:
        """Return floor(n share)."""
        return math.floor(positions * self.share)


@dataclass(frozen=True)
class FallingShare(Mixture):
    """The second group's share falls in a straight line from `share` to 0 at the position `end`, and stays there."""

    share: float  # at the start, in (0, 1)
    end: int  # position, above 0

    def seconds(self, positions: int) -> int:
        """Return floor(share (n - n^2 / (2 end))), the integral of the share, for n up to `end`."""
        passed = min(positions, self.end)
        return math.floor(self.share * (passed - passed**2 / (2 * self.end)))


@dataclass(frozen=True)
class OneAfterTheOther(Mixture):
    """The second group alone up to the position `switch`, then the first group alone."""

    switch: int

    def seconds(self, positions: int) -> int:
        """Return n up to the switch, and no more after it."""
        return min(positions, self.switch)
