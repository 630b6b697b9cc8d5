"""The rows of learning_curve.csv and exchange.csv, and the sentences that say what a rate means and costs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.metrics.statistics.exchange_rate import ExchangeRate, Interval, Runs, Worth
from pipeline.metrics.statistics.learning_curve import Array
from pipeline.stages.compare.params import Exchange
from pipeline.stages.mix.params import TrainingSet

Record = dict[str, Any]
About = tuple[str, str, Sequence[str], TrainingSet]  # segmenter, line, training sets, the first set of the line


@dataclass(frozen=True)
class LearningPoint:
    """The mean Dice of a line at one number of real pairs. One row of learning_curve.csv."""

    segmenter: str
    line: str
    n_real: int
    models: int
    dice: float
    low: float
    high: float
    fitted: float | None  # by the monotone curve of real images
    power_law: float | None
    residual: float | None  # Dice minus the power law


@dataclass(frozen=True)
class FittedCurve:
    """The learning curve of real images, its band, and the power law, at a grid of sizes."""

    segmenter: str
    n_real: list[float]
    dice: list[float]
    low: list[float]
    high: list[float]
    power_law: list[float]


@dataclass(frozen=True)
class Rate:
    """What the images of one training set are worth in real pairs. One row of exchange.csv.

    Numbers are None where they lie outside of what was measured, or where no rate is stated.
    """

    segmenter: str
    line: str
    training_sets: str
    generator: str | None
    multiplier: int
    n_real: int
    images: int  # synthetic ones
    dice: float
    low: float | None = None
    high: float | None = None
    equivalent: float | None = None  # real pairs alone that reach the same Dice
    equivalent_low: float | None = None
    equivalent_high: float | None = None
    rate: float | None = None  # equivalent / n_real
    rate_low: float | None = None
    rate_high: float | None = None
    power_law: float | None = None  # the equivalent by the power law
    above: float | None = None  # share of resamples above the whole curve
    below: float | None = None
    step: int | None = None  # labels whose worth is compared with that of step x multiplier images
    labels_worth: float | None = None
    labels_worth_low: float | None = None
    labels_worth_high: float | None = None
    images_worth: float | None = None
    images_worth_low: float | None = None
    images_worth_high: float | None = None
    label_minutes: float | None = None  # that the synthetic images replace
    label_minutes_low: float | None = None
    label_minutes_high: float | None = None
    gpu_hours: float | None = None
    sentence: str = ""
    cost: str | None = None
    refusal: str | None = None


def refused_row(about: About, arm: Runs, reason: str) -> Rate:
    """Return the row of a training set for which no rate can be stated."""
    row = _start(about, arm.n, float(arm.scores.mean()))
    return Rate(**row, sentence=f"{_what(about, arm.n)}: no rate is stated. {reason}", refusal=reason)


def rate_row(about: About, rate: ExchangeRate, next_ones: Worth | None, sizes: Array, settings: Exchange) -> Rate:
    """Return the row of a training set; `sizes` are those at which the curve was measured."""
    row: Record = _start(about, rate.n, rate.score.value) | {"low": rate.score.low, "high": rate.score.high}
    row |= {"above": rate.above, "below": rate.below}
    if next_ones is not None:
        row |= _columns("labels_worth", next_ones.labels) | {"step": settings.step}
        row |= _columns("images_worth", next_ones.images) if row["images"] else {}
    if rate.refusal is not None:
        return Rate(**row, sentence=f"{_what(about, rate.n)}: no rate is stated. {rate.refusal}", refusal=rate.refusal)
    equivalent, n = rate.equivalent, rate.n
    shares = Interval(*(value / n for value in (equivalent.value, equivalent.low, equivalent.high)))
    row |= _columns("equivalent", equivalent) | _columns("rate", shares) | {"power_law": _finite(rate.power_law)}
    ends = f"[{_size(equivalent.low, sizes)}, {_size(equivalent.high, sizes)}]"
    sentence = f"{_what(about, n)} = {_size(equivalent.value, sizes)} real pairs {ends}"
    if row["images"]:
        row |= _costs(equivalent, n, row["images"], sizes, settings)
    return Rate(**row, sentence=sentence)


def rates_as_metrics(rows: Sequence[Record]) -> Record:
    """Return exchange.<segmenter>.<line>.<n>.{equivalent, rate, sentence} of the rows of exchange.csv."""
    tree: Record = {}
    keys = ("equivalent", "equivalent_low", "equivalent_high", "rate", "rate_low", "rate_high", "sentence")
    for row in rows:
        line = tree.setdefault(row["segmenter"], {}).setdefault(row["line"], {})
        line[str(row["n_real"])] = {key: row[key] for key in keys}
    return tree


def _start(about: About, n: int, dice: float) -> Record:
    segmenter, line, names, first = about
    row: Record = {"segmenter": segmenter, "line": line, "training_sets": " ".join(names), "generator": first.generator}
    return row | {"multiplier": first.multiplier, "n_real": n, "images": n * first.multiplier, "dice": dice}


def _what(about: About, n: int) -> str:
    return f"{n} real + {about[1]}" if about[3].generator else f"{n} real, {about[1]}"


def _costs(equivalent: Interval, n: int, images: int, sizes: Array, settings: Exchange) -> Record:
    """Return the label minutes that the images replace and the GPU hours that they take, as columns and in words."""
    row: Record = {}
    parts: list[str] = []
    if settings.minutes_per_label is not None:
        minutes = Interval(
            *((end - n) * settings.minutes_per_label for end in (equivalent.value, equivalent.low, equivalent.high))
        )
        row |= _columns("label_minutes", minutes)
        limits = [(size - n) * settings.minutes_per_label for size in (sizes[0], sizes[-1])]
        value, low, high = (_minutes(end, limits) for end in (minutes.value, minutes.low, minutes.high))
        parts.append(f"the synthetic images replace {value} minutes of labelling [{low}, {high}]")
    if settings.gpu_hours_per_image is not None:
        row["gpu_hours"] = images * settings.gpu_hours_per_image
        parts.append(f"{images} images take {row['gpu_hours']:.3g} GPU hours")
    return row | ({"cost": "; ".join(parts)} if parts else {})


def _columns(name: str, interval: Interval) -> Record:
    ends: Mapping[str, float] = asdict(interval)
    return {name + ("" if end == "value" else f"_{end}"): _finite(value) for end, value in ends.items()}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _size(n: float, sizes: Array) -> str:
    """Return a number of pairs in words; outside of what was measured, at which end it lies."""
    if math.isinf(n):
        return f"at least {sizes[-1]:.0f}" if n > 0 else f"at most {sizes[0]:.0f}"
    return f"{n:.0f}"


def _minutes(value: float, limits: Sequence[float]) -> str:
    if math.isinf(value):
        return f"at least {limits[1]:.0f}" if value > 0 else f"at most {limits[0]:.0f}"
    return f"{round(value)}"  # never -0
