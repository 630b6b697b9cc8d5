"""The score of an image set: one number, with all that is needed to interpret it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, Self

from pipeline.metrics.statistics.grouped import Interval

Direction = Literal["lower", "higher"]


@dataclass(frozen=True)
class ScoreResult:
    """One value; None if it cannot be computed, and then `reason` says why."""

    name: str  # metric, or metric.extractor
    value: float | None
    n: int  # images per set; synthetic ones if n_real is another number
    direction: Direction  # which way is better
    seed: int = 0  # of everything random in it
    variant: str = ""  # what the set was compared with: train, train_half, heldout
    low: float | None = None  # 95 % interval
    high: float | None = None
    floor: float | None = None  # the same number for real images in place of the synthetic ones, at the same n
    standard_error: float | None = (
        None  # of a mean over random subsets or of a fitted line; other images would add to it
    )
    p_value: float | None = None  # of "synthetic and real images have one distribution", if it is tested
    reason: str | None = None
    left_out: int | None = None  # images without a value, if the score knows such; not part of n
    n_real: int | None = None  # real images, where they are not n
    n_groups: int | None = None  # patients or sequences behind the interval and p; of two sets the smaller number
    interval_reason: str | None = None  # why there is a value and no interval
    p_reason: str | None = None  # why a distance that is tested elsewhere has no p
    subsets: int | None = None  # number of random subsets that the value is the mean over
    subset_size: int | None = None  # m: images of each set in a subset
    subset_sd: float | None = None  # standard deviation of the value over the subsets, as papers print it

    @property
    def key(self) -> tuple[str, ...]:
        """Path in metrics.json; the comparison with the training images has no suffix."""
        metric, *extractor = self.name.split(".")
        suffix = "" if self.variant in ("", "train") else f"_{self.variant}"
        return (metric + suffix, *extractor)

    def within(self, interval: Interval) -> Self:
        """Return the score with an interval, or with the reason why there is none."""
        ends = {"low": interval.low, "high": interval.high}
        return replace(self, **ends, n_groups=interval.n_groups, interval_reason=interval.reason)

    def record(self) -> dict[str, Any]:
        """Return the score as plain JSON."""
        return asdict(self)


def current_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of scores.json with the fields and the name of today.

    Records written before n_groups was among them have fewer fields, and `*_infinity` meant that both sets were
    subsampled, which is now called `*_infinity_both`.
    """
    optional = {field.name: None for field in fields(ScoreResult) if field.default is None}
    if "n_groups" in record:
        return optional | dict(record)
    return optional | dict(record) | {"name": record["name"].replace("_infinity", "_infinity_both")}


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
