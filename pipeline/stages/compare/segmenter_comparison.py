"""Segmenters compared with each other on one training set: every entry against the reference entry, metric by metric.

The statistics are those of arms: intervals for new seeds and new images, sign flips, equivalence, harm, power, Holm's
correction (over the segmenters, each metric for itself). Beside them stands the paired t-test over cases of the papers,
which speaks of these trained networks only. Segmenters differ in their weights, so their seeds have nothing in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.core import seeding
from pipeline.core.errors import UserError
from pipeline.core.progress import track
from pipeline.metrics.statistics import power
from pipeline.metrics.statistics.paired import (
    Noise,
    by_cluster,
    equivalence_p,
    estimate,
    half_width,
    membership,
    p_value,
    seed_noise,
    two_level_bootstrap,
    unpaired_noise,
)
from pipeline.metrics.statistics.resampling import holm, percentile_interval, sign_flip_p
from pipeline.stages.compare.params import DISTANCES, SegmenterComparison, plain
from pipeline.stages.compare.results import Reader, Results, Row, Table, read_results
from pipeline.stages.compare.verdict import Verdict, decide
from pipeline.study import Params

COLUMNS = (
    *("metric", "segmenter", "role", "training_set", "n_images", "n_units", "n_seeds", "mean", "low", "high"),
    *("val_mean", "seed_sd", "difference", "difference_low", "difference_high", "bootstrap_low", "bootstrap_high"),
    *("p", "p_holm", "p_images", "p_images_holm", "p_equivalent", "t", "p_t", "t_significant", "effect_size"),
    *("share_improved", "worst_tenth", "images_needed", "seeds_needed", "detectable", "verdict"),
)
TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "nsd": "NSD",
    "hd95": "HD95",
    "ged": "GED",
    "hm_iou": "HM-IoU",
    "s_c": "S_c",
    "d_max": "D_max",
    "d_a": "D_a",
    "ci_printed": "CI as printed",
    "ci_harmonic": "CI as harmonic mean",
}


@dataclass(frozen=True)
class Pair:
    """Test scores [seeds, images] of a segmenter and of the reference; images that either cannot be scored on left out.

    `units` is what is drawn at random (a patient, else the image) of each image, None where that is the image.
    """

    own: Table
    reference: Table
    units: tuple[str, ...] | None

    @property
    def differences(self) -> Table:
        """[seeds, units] own minus reference."""
        return self.by_unit(self.own - self.reference)

    @property
    def noise(self) -> Noise:
        """Noise of seeds in the difference."""
        return unpaired_noise(self.by_unit(self.own), self.by_unit(self.reference))

    def by_unit(self, table: Table) -> Table:
        """[seeds, images] -> [seeds, units]."""
        return table if self.units is None else by_cluster(table, self.units)

    def sums(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values of images summed by unit."""
        return values if self.units is None else values @ membership(self.units)


def compare_segmenters(params: Params, read: Reader = read_results) -> list[Row]:
    """One row of COLUMNS per metric and segmenter, the reference among them; none where none is asked for."""
    chosen = params.compare.segmenters
    if chosen is None:
        return []
    found = {name: read(params, name, [params.compared_on], chosen.metrics) for name in params.segmenters}
    rows: list[Row] = []
    for metric in track(chosen.metrics, "compare segmenters"):
        own = [_row(params, chosen, metric, name, found) for name in params.segmenters]
        _conclude(params, chosen, metric, [row for row in own if row["role"] == "segmenter"])
        rows += own
    return rows


def pair(own: Results, reference: Results, key: tuple[str, str, str]) -> Pair:
    """Scores of two segmenters under (training set, split, metric). Raises UserError where they cannot be paired."""
    arm, split, metric = key
    if own.images[split] != reference.images[split]:
        raise UserError(f"the segmenters were not scored on the same {split} images; run the stage segment again")
    tables = own.tables[key], reference.tables[key]
    there = ~np.asarray(np.isnan(np.stack(tables)).any((0, 1)))
    if not there.any():
        raise UserError(f"no {split} image has a {metric} by both segmenters on {arm}; choose another metric")
    units = None
    if split in own.clusters:
        units = tuple(unit for unit, keep in zip(own.clusters[split], there, strict=True) if keep)
    return Pair(tables[0][:, there], tables[1][:, there], units)


def evidence(params: Params, pair: Pair, margin: float) -> Row:
    """The difference to the reference, and every p that the verdict rests on."""
    settings, units = params.compare, pair.differences
    half, mean = half_width(units, pair.noise), float(units.mean())
    width, signs = half.at(1 - settings.confidence), seeding.number(params.seed, "compare", "signs")
    flipped = pair.sums((pair.own - pair.reference).mean(0))
    return {
        "difference": mean,
        "difference_low": mean - width,
        "difference_high": mean + width,
        "p": p_value(abs(mean), half.at),
        "p_images": sign_flip_p(flipped, settings.resamples, signs),
        "p_equivalent": equivalence_p(mean, half, margin),
    }


def described(params: Params, pair: Pair, sign: int, stream: tuple[str, ...]) -> Row:
    """Bootstrap, effect size and harm of a difference; `sign` is -1 where less is better."""
    rng = seeding.numpy_rng(params.seed, "compare", "segmenters", *stream)
    draws = two_level_bootstrap(pair.differences[None], params.compare.resamples, rng)[:, 0]
    low, high = percentile_interval(draws, params.compare.confidence)
    gains = sign * (pair.own - pair.reference).mean(0)
    spread = gains.std(ddof=1) if len(gains) > 1 else 0.0
    return {
        "bootstrap_low": low,
        "bootstrap_high": high,
        "effect_size": float(gains.mean() / spread) if spread > 0 else None,  # Cohen's d_z, above 0: better
        "share_improved": float((gains > 0).mean()),
        "worst_tenth": float(sign * np.sort(gains)[: max(1, len(gains) // 10)].mean()),  # of the images that lose most
    }


def t_test(pair: Pair, alpha: float) -> Row:
    """Student's paired t-test over cases (units), each the mean over seeds; None where it says nothing."""
    own, reference = pair.by_unit(pair.own).mean(0), pair.by_unit(pair.reference).mean(0)
    if len(own) < 2 or np.ptp(own - reference) == 0:
        return {"t": None, "p_t": None, "t_significant": None}
    found = stats.ttest_rel(own, reference)
    return {"t": float(found.statistic), "p_t": float(found.pvalue), "t_significant": bool(found.pvalue < alpha)}


def needs(params: Params, pair: Pair, margin: float) -> Row:
    """Images or seeds with which a true difference of the margin would be found, and what this study finds."""
    settings, units = params.compare, pair.differences
    seeds, count = units.shape
    if seeds < 2 or count < 2:
        return dict.fromkeys(("images_needed", "seeds_needed", "detectable"))
    found, level = power.variance_components(units, pair.noise), (1 - settings.confidence) / (len(params.segmenters) - 1)
    fewest = power.images_needed(margin, found, seeds, level, settings.power)
    return {
        "images_needed": None if fewest is None else int(np.ceil(fewest * pair.own.shape[1] / count)),
        "seeds_needed": power.seeds_needed(margin, found, count, level, settings.power),
        "detectable": power.detectable(found, seeds, count, level, settings.power),
    }


def sentence(rows: Sequence[Row], params: Params) -> str:
    """The verdict of a comparison of segmenters: on the primary metric, every segmenter under its verdict."""
    chosen = params.compare.segmenters
    assert chosen is not None
    own = [row for row in rows if row["metric"] == chosen.metrics[0] and row["role"] == "segmenter"]
    groups = {verdict: [row for row in own if row["verdict"] == verdict] for verdict in Verdict}
    told = [f"{verdict}: " + ", ".join(map(_told, group)) for verdict, group in groups.items() if group]
    count = f"n = {own[0]['n_images']} images, {own[0]['n_seeds']} seed{'s' if own[0]['n_seeds'] != 1 else ''}"
    caveat = " One seed cannot tell an effect from chance." if own[0]["n_seeds"] < 2 else ""
    against = f"{title(chosen.metrics[0])} against {chosen.reference}, all trained on {params.compared_on}"
    return f"{against} ({count}): {'; '.join(told)}.{caveat}"


def title(metric: str) -> str:
    """A metric's name in words."""
    name, rest = plain(metric), metric.removeprefix(plain(metric)).removesuffix("_left_out")
    told = TITLES.get(name, name.replace("_", " ")) + rest.replace("_", " of class ")
    return f"{told} without empty masks" if metric.endswith("_left_out") else told


def _told(row: Row) -> str:
    value, low, high = (row[key] for key in ("difference", "difference_low", "difference_high"))
    return f"{row['segmenter']} {value:+.3f} [{low:.3f}, {high:.3f}]"


def _row(params: Params, chosen: SegmenterComparison, metric: str, name: str, found: dict[str, Results]) -> Row:
    """Means, and without a verdict yet the difference to the reference."""
    arm, both = params.compared_on, pair(found[name], found[chosen.reference], (params.compared_on, "test", metric))
    units, is_reference = both.by_unit(both.own), name == chosen.reference
    mean = estimate(units, seed_noise([units]), params.compare.confidence)
    most = np.inf if plain(metric) in (*DISTANCES, "ged") else 1.0
    row: Row = {"metric": metric, "segmenter": name, "role": "reference" if is_reference else "segmenter"}
    row |= {"training_set": arm, "n_images": both.own.shape[1], "n_units": units.shape[1], "n_seeds": len(units)}
    row |= {"mean": mean.mean, "low": max(mean.low, 0.0), "high": min(mean.high, most)}
    row |= {"val_mean": _mean(found[name].tables[arm, "val", metric])}
    row |= {"seed_sd": float(both.own.mean(1).std(ddof=1)) if len(units) > 1 else None}
    if is_reference:
        return row | {"verdict": None}
    margin = chosen.margin(metric, params.compare.margin)
    return (
        row
        | evidence(params, both, margin)
        | described(params, both, chosen.sign(metric), (metric, name))
        | t_test(both, chosen.alpha)
        | needs(params, both, margin)
    )


def _mean(table: Table) -> float | None:
    there = table[~np.isnan(table)]
    return float(there.mean()) if there.size else None


def _conclude(params: Params, chosen: SegmenterComparison, metric: str, family: Sequence[Row]) -> None:
    """Adds p-values adjusted over the segmenters (Holm) and each one's verdict."""
    for key in ("p", "p_images"):
        for row, adjusted in zip(family, holm([row[key] for row in family]), strict=True):
            row[f"{key}_holm"] = adjusted
    for row in family:
        gain = {"difference": chosen.sign(metric) * row["difference"]}
        row["verdict"] = str(decide(row | gain, params.compare))
