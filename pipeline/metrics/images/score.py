"""The score of an image set: one number, with all that is needed to interpret it."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Direction = Literal["lower", "higher"]


@dataclass(frozen=True)
class ScoreResult:
    """One value; None if it cannot be computed, and then `reason` says why."""

    name: str  # metric, or metric.extractor
    value: float | None
    n: int  # images per set
    direction: Direction  # which way is better
    seed: int = 0  # of everything random in it
    variant: str = ""  # what the set was compared with: train, train_half, heldout
    low: float | None = None  # 95 % interval
    high: float | None = None
    floor: float | None = None  # the same number for real images in place of the synthetic ones, at the same n
    standard_error: float | None = None  # of the value, if it is an estimate from random subsets
    p_value: float | None = None  # of "synthetic and real images have one distribution", if it is tested
    reason: str | None = None
    left_out: int | None = None  # images without a value, if the score knows such; not part of n

    @property
    def key(self) -> tuple[str, ...]:
        """Path in metrics.json; the comparison with the training images has no suffix."""
        metric, *extractor = self.name.split(".")
        suffix = "" if self.variant in ("", "train") else f"_{self.variant}"
        return (metric + suffix, *extractor)

    def record(self) -> dict[str, Any]:
        """Return the score as plain JSON."""
        return asdict(self)


def nested(scores: Iterable[ScoreResult]) -> dict[str, Any]:
    """Return values by metric and extractor: {"frechet": {"efficientnet_lite0": 31.2}, "faithfulness": 0.8}."""
    tree: dict[str, Any] = {}
    for score in scores:
        *path, last = score.key
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[last] = score.value
    return tree
