"""What are synthetic images worth in real pairs? Learning curves and the annotation exchange rate of a study.

Training sets of real images alone that differ in `limit` are the learning curve of a segmenter. All other sets (a
generator with a multiplier, a control without one) form lines along `limit`, and each set of a line is read off the
curve: see pipeline.metrics.statistics.exchange_rate.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.core import paths, seeding
from pipeline.data.image_set import ImageSet
from pipeline.data.limited import training_pairs
from pipeline.metrics.statistics.exchange_rate import (
    FEWEST_SIZES,
    Bootstrap,
    Interval,
    Resampled,
    Runs,
    exchange_rate,
    resample,
    worth,
)
from pipeline.metrics.statistics.paired import estimate, seed_noise
from pipeline.stages.compare.arms import Arm
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.exchange_rows import FittedCurve, LearningPoint, Rate, rate_row, refused_row
from pipeline.stages.compare.params import Exchange
from pipeline.stages.compare.results import Results
from pipeline.stages.compare.sentence import control_note, failed_controls
from pipeline.stages.compare.verdict import FEWEST_SEEDS, FEWEST_UNITS
from pipeline.stages.finetune.params import GeneratorEntry
from pipeline.stages.mix.params import TrainingSet
from pipeline.stages.mix.treatments import recipe

REAL = "real"  # the line of real images alone
GRID = 49  # points at which a fitted curve is published


@dataclass(frozen=True)
class Line:
    """Training sets that differ in nothing but their real pairs, the draw of these, and the seed of the generator."""

    name: str
    first: TrainingSet
    by_limit: Mapping[int, tuple[str, ...]]  # training sets by limit, the smallest first


@dataclass(frozen=True)
class ExchangeRates:
    """The learning curves of all segmenters, and what is read off them."""

    points: list[LearningPoint]
    fits: list[FittedCurve]
    rates: list[Rate]


def rates_by_segmenter(
    design: Design,
    generators: Mapping[str, GeneratorEntry],
    pairs: Mapping[str, int],
    grids: Mapping[str, Results],
    arms: Sequence[Arm],
) -> list[ExchangeRates]:
    """Return the exchange rates under each segmenter; its failed controls withdraw them, as they withdraw verdicts."""
    found = lines(design, generators, pairs)
    return [
        exchange_rates(design, found, pairs, name, results, [control_note(one) for one in failed_controls(arms, name)])
        for name, results in grids.items()
    ]


def record(rates: Sequence[ExchangeRates]) -> dict[str, list[dict[str, Any]]]:
    """Return what exchange.json holds, by key of comparison.json; {} where there is no learning curve."""
    if not any(one.points for one in rates):
        return {}
    return {
        "learning_curve": [asdict(point) for one in rates for point in one.points],
        "learning_fits": [asdict(fit) for one in rates for fit in one.fits],
        "exchange": [asdict(rate) for one in rates for rate in one.rates],
    }


def pair_counts(study: str, seed: int, sets: Mapping[str, TrainingSet]) -> dict[str, int]:
    """Return how many real pairs each training set holds; {} where no set has a limit.

    Raises UserError where the real set has fewer pairs than a limit.
    """
    if all(one.limit is None for one in sets.values()):
        return {}
    real = ImageSet.open(paths.real(study))
    return {
        name: len(training_pairs(real, one.pair_limit, seed, f"training_sets.{name}")) for name, one in sets.items()
    }


def lines(design: Design, generators: Mapping[str, GeneratorEntry], pairs: Mapping[str, int]) -> list[Line]:
    """Return the line of real images alone, then all others; [] where it has fewer than two sizes.

    Sets with another `seed_offset` than the reference (A/A controls) and those of `real: all` belong to none. All pairs
    are the same pairs in every draw: of sets without a generator that hold all of them, a line takes the first.
    """
    reference = design.training_sets[design.reference]
    groups: dict[str, dict[int, list[str]]] = {}
    whole = max(pairs.values(), default=0)
    for name, one in design.training_sets.items():
        if (one.seed_offset, one.real) == (reference.seed_offset, "train"):
            alike = groups.setdefault(_line_name(one, reference, generators), {}).setdefault(one.limit or whole, [])
            if one.generator or one.limit not in (None, whole) or not alike:
                alike.append(name)
    if len(groups.get(REAL, {})) < 2 or not pairs:
        return []
    ordered = [REAL, *(name for name in groups if name != REAL)]
    return [
        Line(
            name,
            design.training_sets[next(iter(groups[name].values()))[0]],
            {limit: tuple(groups[name][limit]) for limit in sorted(groups[name])},
        )
        for name in ordered
    ]


def exchange_rates(
    design: Design,
    found: Sequence[Line],
    pairs: Mapping[str, int],
    segmenter: str,
    results: Results,
    failed: Sequence[str],
) -> ExchangeRates:
    """Return the learning curve of one segmenter and the exchange rate of every other training set.

    `pairs` are the real pairs of each training set, `failed` the notes on A/A controls that differ from their
    reference, any of which withdraws all rates.
    """
    if not found:
        return ExchangeRates([], [], [])
    curve = [_runs(names, pairs, results) for names in found[0].by_limit.values()]
    too_little = _too_little(curve)
    reason = " ".join(failed) or too_little
    bootstrap = _bootstrap(design, segmenter, REAL)
    drawn = resample(curve, curve[-1], bootstrap) if too_little is None else None
    points = [_point(design, segmenter, REAL, one, drawn, place) for place, one in enumerate(curve)]
    rates: list[Rate] = []
    for line in found[1:]:
        for names in line.by_limit.values():
            arm = _runs(names, pairs, results)
            points.append(_point(design, segmenter, line.name, arm))
            rates.append(_rate(design, segmenter, line, names, curve, arm, reason))
    return ExchangeRates(points, [_fitted(segmenter, drawn, bootstrap)] if drawn else [], rates)


def _line_name(one: TrainingSet, reference: TrainingSet, generators: Mapping[str, GeneratorEntry]) -> str:
    """Return what all sets of a line have in common, such as `4x siamese, screen 0.5`."""
    plain, of_reference = (each.model_copy(update={"limit": None, "limit_draw": 0}) for each in (one, reference))
    if one.generator is None:
        return REAL if plain == of_reference else plain.options or "as they are"
    own = _recipe(generators, one.generator)
    first = next(name for name in generators if _recipe(generators, name) == own)
    method = generators[first].method_of(first)
    alike = {_recipe(generators, name) for name in generators if generators[name].method_of(name) == method}
    name = method if len(alike) == 1 else first
    fewer = generators[one.generator].limit
    pairs = "" if fewer == one.limit else f"fine-tuned on {fewer} pairs"
    return ", ".join(filter(None, (f"{one.multiplier}x {name}", pairs, plain.options)))


def _recipe(generators: Mapping[str, GeneratorEntry], name: str) -> str:
    """Return what entries of `generators` that differ in seed and limit alone have in common."""
    return recipe(generators[name].model_copy(update={"limit": None, "limit_draw": 0}), name)


def _runs(names: Sequence[str], pairs: Mapping[str, int], results: Results) -> Runs:
    """Return the scores of sets that differ in the draw of their pairs, or in the seed of their generator."""
    tables = [results.by_unit(results.tables[name, "test", "dice"], "test") for name in names]
    return Runs(round(np.mean([pairs[name] for name in names])), np.stack(tables))


def _too_little(curve: Sequence[Runs]) -> str | None:
    """Return why no rate can be read off a curve, whatever the arm; None where one can."""
    _, seeds, units = curve[0].scores.shape
    if len(curve) < FEWEST_SIZES:
        return f"The curve of real images has {len(curve)} sizes; a rate needs {FEWEST_SIZES}."
    if len({one.n for one in curve}) < len(curve):
        return "Two limits leave the same number of real pairs, as groups are not divided; use limits that differ more."
    if seeds < FEWEST_SEEDS:
        return f"{seeds} seed{'s are' if seeds > 1 else ' is'} too few; a rate needs {FEWEST_SEEDS}, better five."
    if units < FEWEST_UNITS:
        images = f"{units} independent test image{'s' if units > 1 else ''} (or group{'s' if units > 1 else ''})"
        return f"Only {images}; a rate needs {FEWEST_UNITS}."
    return None


def _rate(
    design: Design,
    segmenter: str,
    line: Line,
    names: Sequence[str],
    curve: Sequence[Runs],
    arm: Runs,
    reason: str | None,
) -> Rate:
    """Return one row of exchange.csv."""
    about = (segmenter, line.name, names, line.first)
    if reason is not None:
        return refused_row(about, arm, reason)
    bootstrap, settings = _bootstrap(design, segmenter, *names), design.compare.exchange or Exchange()
    drawn = resample(curve, arm, bootstrap)
    rate = exchange_rate(drawn, bootstrap)
    return rate_row(about, rate, worth(drawn, settings.step, bootstrap), drawn.sizes, settings)


def _bootstrap(design: Design, *what: str) -> Bootstrap:
    rng = seeding.numpy_rng(design.seed, "compare", "exchange", *what)
    return Bootstrap(design.compare.resamples, design.compare.confidence, rng)


def _point(
    design: Design, segmenter: str, line: str, runs: Runs, drawn: Resampled | None = None, place: int = 0
) -> LearningPoint:
    """Return one row of learning_curve.csv; `drawn` is the fitted curve of which it is the point at `place`."""
    mean = estimate(runs.replicates, seed_noise([runs.replicates]), design.compare.confidence)
    fitted = power_law = None
    if drawn is not None:
        fitted, power_law = (float(curve.at(drawn.sizes[place])[0]) for curve in (drawn.curve, drawn.power_law))
    return LearningPoint(
        segmenter,
        line,
        runs.n,
        runs.models,
        mean.mean,
        max(mean.low, 0.0),
        min(mean.high, 1.0),
        fitted,
        power_law,
        None if power_law is None else mean.mean - power_law,
    )


def _fitted(segmenter: str, drawn: Resampled, bootstrap: Bootstrap) -> FittedCurve:
    """Return a fitted curve with its band at sizes that are evenly spaced on a logarithmic axis."""
    sizes = [float(n) for n in np.geomspace(drawn.sizes[0], drawn.sizes[-1], GRID)]
    sizes[0], sizes[-1] = float(drawn.sizes[0]), float(drawn.sizes[-1])  # geomspace may miss them by a rounding
    band: list[Interval] = []
    for n in sizes:
        scores = drawn.curve.at(n)
        band.append(bootstrap.interval(float(scores[0]), scores[1:]))
    return FittedCurve(
        segmenter,
        sizes,
        [one.value for one in band],
        [one.low for one in band],
        [one.high for one in band],
        [float(drawn.power_law.at(n)[0]) for n in sizes],
    )
