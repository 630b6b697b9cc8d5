"""Which multiplier? The curve, the trend along it, how stable the choice on validation images is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core import seeding
from pipeline.metrics.statistics.paired import two_level_bootstrap
from pipeline.metrics.statistics.trend import page_trend
from pipeline.stages.compare.arms import Arm
from pipeline.stages.compare.design import Design
from pipeline.stages.compare.results import Results


@dataclass(frozen=True)
class CurvePoint:
    """One multiplier of one generator: mean Dice with its interval, rounded. One row of multiplier_curve.csv."""

    segmenter: str
    generator: str
    multiplier: int
    dice: float
    low: float
    high: float
    options: str  # see Ladder


@dataclass(frozen=True)
class Choice:
    """One candidate multiplier of one generator. One row of choice.csv."""

    segmenter: str
    generator: str
    multiplier: int
    training_set: str
    val_dice: float
    wins: float  # share of resamples in which it has the highest mean
    chosen: bool
    options: str  # see Ladder


@dataclass(frozen=True)
class MultiplierTrend:
    """Page's test along the multipliers of one generator. One row of trend.csv."""

    segmenter: str
    generator: str
    multipliers: str  # such as 0<1<2
    direction: str
    p: float  # over images, of these models
    p_seeds: float | None  # over seeds as blocks
    options: str  # see Ladder


def multiplier_curve(design: Design, arms: Sequence[Arm]) -> list[CurvePoint]:
    """Return Dice by segmenter, ladder and multiplier; 0 is the reference."""
    curve = []
    for segmenter in dict.fromkeys(arm.segmenter for arm in arms):
        by_name = {arm.training_set: arm for arm in arms if arm.segmenter == segmenter}
        for ladder in design.ladders():
            for arm in (by_name[name] for name in ladder.names):
                dice, low, high = (round(value, 6) for value in (arm.dice, arm.dice_low, arm.dice_high))
                curve.append(CurvePoint(segmenter, ladder.generator, arm.multiplier, dice, low, high, ladder.options))
    return curve


def choices(design: Design, segmenter: str, results: Results) -> list[Choice]:
    """Return, per ladder, the multiplier with the highest Dice on validation images, and how often each would win.

    Seeds and validation images (clusters, where known) are drawn again, the same for all multipliers; `wins` is the
    share of such draws in which a multiplier has the highest mean.
    """
    rows = []
    for ladder in design.ladders():
        names = ladder.names
        tables = np.stack([results.by_unit(results.tables[name, "val", "dice"], "val") for name in names])
        rng = seeding.numpy_rng(design.seed, "compare", "choice", ladder.generator)
        best = two_level_bootstrap(tables, design.compare.resamples, rng).argmax(1)
        means = tables.mean((1, 2))
        rows += [
            Choice(
                segmenter,
                ladder.generator,
                design.training_sets[name].multiplier,
                name,
                val_dice=float(means[place]),
                wins=float((best == place).mean()),
                chosen=bool(means.argmax() == place),
                options=ladder.options,
            )
            for place, name in enumerate(names)
        ]
    return rows


def trends(design: Design, segmenter: str, results: Results) -> list[MultiplierTrend]:
    """Return Page's test over the multipliers of each ladder: on images (of these models), and on seeds as blocks.

    Left out with fewer than three levels. `p` covers new images only, `p_seeds` newly trained segmenters. Where
    clusters are known, a block is the mean over a cluster's images.
    """
    rows = []
    for ladder in design.ladders():
        names = ladder.names
        tables = np.stack([results.tables[name, "test", "dice"] for name in names])
        units = np.stack([results.unit_means(table.mean(0, keepdims=True), "test")[0] for table in tables], axis=1)
        if len(names) < 3 or len(units) < 2:
            continue
        over_images, seeds = page_trend(units), tables.mean(2).T
        levels = "<".join(str(design.training_sets[name].multiplier) for name in names)
        p_seeds = page_trend(seeds).p if len(seeds) > 1 else None
        tested = over_images.direction, over_images.p, p_seeds
        rows.append(MultiplierTrend(segmenter, ladder.generator, levels, *tested, ladder.options))
    return rows
