"""Which multiplier? The curve, the trend along it, how stable the choice on validation images is, generator seeds."""

from collections.abc import Iterator, Sequence

import numpy as np

from pipeline.core import seeding
from pipeline.metrics.statistics import trend
from pipeline.metrics.statistics.paired import two_level_bootstrap
from pipeline.stages.compare.results import Results, Row
from pipeline.study import Params

CURVE = ("segmenter", "generator", "multiplier", "dice", "low", "high")
CHOICE = ("segmenter", "generator", "multiplier", "training_set", "val_dice", "wins", "chosen")
TREND = ("segmenter", "generator", "multipliers", "direction", "p", "p_seeds")
SEEDS = ("segmenter", "method", "multiplier", "generators", "seeds", "difference", "seed_sd", "least", "most")


def multiplier_curve(arms: Sequence[Row]) -> list[Row]:
    """Dice by segmenter, generator and multiplier with intervals; 0: the reference. Screened arms are left out."""
    curve = []
    for segmenter in dict.fromkeys(row["segmenter"] for row in arms):
        own = [row for row in arms if row["segmenter"] == segmenter]
        reference = next(row for row in own if row["role"] == "reference")
        whole = [row for row in own if row["role"] == "arm" and not row["screened"]]
        for generator in dict.fromkeys(row["generator"] for row in whole):
            steps = [reference, *(row for row in whole if row["generator"] == generator)]
            for row in sorted(steps, key=lambda row: row["multiplier"]):
                point = {"dice": row["dice"], "low": row["dice_low"], "high": row["dice_high"]}
                name = {"segmenter": segmenter, "generator": generator, "multiplier": row["multiplier"]}
                curve.append(name | {key: round(value, 6) for key, value in point.items()})
    return curve


def ladders(params: Params) -> Iterator[tuple[str, list[str]]]:
    """Each generator with its training sets in the order of their multipliers, the reference first."""
    sets = params.training_sets
    whole = {name: arm for name, arm in sets.items() if arm.generator and not arm.screened and not arm.seed_offset}
    for generator in dict.fromkeys(arm.generator for arm in whole.values() if arm.generator):
        own = [name for name in whole if whole[name].generator == generator and name != params.compare.reference]
        if own:
            yield generator, [params.compare.reference, *sorted(own, key=lambda name: whole[name].multiplier)]


def choices(params: Params, segmenter: str, results: Results) -> list[Row]:
    """Per generator the multiplier with the highest Dice on validation images, and how often each would win.

    Seeds and validation images (clusters, where known) are drawn again, the same for all multipliers; `wins` is the
    share of such draws in which a multiplier has the highest mean.
    """
    rows: list[Row] = []
    for generator, names in ladders(params):
        tables = np.stack([results.by_unit(results.tables[name, "val", "dice"], "val") for name in names])
        rng = seeding.numpy_rng(params.seed, "compare", "choice", generator)
        best = two_level_bootstrap(tables, params.compare.resamples, rng).argmax(1)
        means = tables.mean((1, 2))
        for place, name in enumerate(names):
            about = {"multiplier": params.training_sets[name].multiplier, "training_set": name}
            told = {"val_dice": float(means[place]), "wins": float((best == place).mean())}
            chosen = {"chosen": bool(means.argmax() == place)}
            rows.append({"segmenter": segmenter, "generator": generator} | about | told | chosen)
    return rows


def trends(params: Params, segmenter: str, results: Results) -> list[Row]:
    """Page's test over the multipliers of each generator: on images (of these models), and on seeds as blocks.

    Left out with fewer than three levels. `p` speaks of new images only, `p_seeds` of newly trained segmenters.
    """
    rows = []
    for generator, names in ladders(params):
        tables = np.stack([results.by_unit(results.tables[name, "test", "dice"], "test") for name in names])
        if len(names) < 3 or tables.shape[2] < 2:
            continue
        over_images, seeds = trend.page_trend(tables.mean(1).T), tables.mean(2).T
        levels = "<".join(str(params.training_sets[name].multiplier) for name in names)
        about = {"segmenter": segmenter, "generator": generator, "multipliers": levels}
        p_seeds = trend.page_trend(seeds).p if len(seeds) > 1 else None
        rows.append(about | {"direction": over_images.direction, "p": over_images.p, "p_seeds": p_seeds})
    return rows


def generator_seeds(params: Params, arms: Sequence[Row]) -> list[Row]:
    """Spread between generators that differ in their seed alone, per method and multiplier; their differences to real.

    `seed_sd` is the SD of the differences between such generators: noise that no test of one generator can see.
    """
    groups: dict[tuple[object, ...], list[Row]] = {}
    for row in arms:
        if row["role"] == "arm" and not row["screened"]:
            key = (row["segmenter"], _method(params, row["generator"]), row["multiplier"])
            groups.setdefault(key, []).append(row)
    rows = []
    for (segmenter, _, multiplier), own in groups.items():
        if len({row["generator"] for row in own}) < 2:
            continue
        found = np.array([row["difference"] for row in own])
        names = [row["generator"] for row in own]
        about = {"segmenter": segmenter, "method": params.generators[names[0]].method or names[0]}
        about |= {"multiplier": multiplier, "generators": " ".join(names)}
        about |= {"seeds": " ".join(str(params.generators[name].seed) for name in names)}
        told = {"difference": float(found.mean()), "seed_sd": float(found.std(ddof=1))}
        rows.append(about | told | {"least": float(found.min()), "most": float(found.max())})
    return rows


def _method(params: Params, generator: str) -> str:
    """What two entries that differ in their seed alone have in common."""
    entry = params.generators[generator]
    return str(entry.model_copy(update={"seed": 0, "method": entry.method or generator}).model_dump())
