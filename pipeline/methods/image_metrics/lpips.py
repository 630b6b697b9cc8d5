"""LPIPS, a perceptual distance of image pairs, in three readings that pull in two directions.

paired: a synthetic image and the real image whose mask conditioned it; lower is more like the real one.
intra_mask: copies of one mask; higher is more diverse. intra_set: images of different masks (the first copies), drawn
at random; higher is more diverse, and its floor is that of the real images of the same masks. Intervals: bootstrap over
masks. Named after the net: lpips_paired.alex is the extractor lpips_alex.
"""

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet, Row
from pipeline.methods.image_metrics._partners import ALONE, column, families, mask, partners
from pipeline.methods.image_metrics._view import View
from pipeline.metrics.images.score import Direction, Score
from pipeline.metrics.images.similarity import bootstrap_pairs, draw_pairs
from pipeline.metrics.statistics.resampling import bootstrap_means, percentile_interval

DIRECTIONS: dict[str, Direction] = {"lpips_paired": "lower", "lpips_intra_mask": "higher", "lpips_intra_set": "higher"}
PREFIX = "lpips_"  # of the extractors
DEFAULT = "lpips_alex"
PAIRS = 500  # of images drawn for each diversity; at least one per mask for intra_mask
Array = NDArray[np.float64]


def score(real: ImageSet, synthetic: ImageSet, view: View) -> list[Score]:
    """lpips_paired, lpips_intra_mask and lpips_intra_set for every net in `score.extractors`, for alex if none is."""
    train = real.split("train")
    scores: list[Score] = []
    for extractor in _nets(view):
        if reason := view.missing(extractor):
            scores += [_absent(kind, extractor, len(synthetic), view, reason) for kind in DIRECTIONS]
            continue
        scores.append(_paired(train, synthetic, view, extractor))
        scores.append(_intra_mask(synthetic, view, extractor))
        scores.append(_intra_set(train, synthetic, view, extractor))
    return scores


def per_image(real: ImageSet, synthetic: ImageSet, view: View) -> dict[str, list[float | None]]:
    """The column lpips_paired of images.csv: the first net that is there."""
    usable = [name for name in _nets(view) if not view.missing(name)]
    if not usable:
        return {}
    train = real.split("train")
    pairs = partners(train, synthetic)
    values = _distances(synthetic, pairs.synthetic, train, pairs.real, view, usable[0])
    return {"lpips_paired": column(pairs, values, len(synthetic))}


def _nets(view: View) -> list[str]:
    return [name for name in view.extractors("distances") if name.startswith(PREFIX)] or [DEFAULT]


def _paired(train: ImageSet, synthetic: ImageSet, view: View, extractor: str) -> Score:
    pairs = partners(train, synthetic)
    if not pairs.masks:
        return _absent("lpips_paired", extractor, len(synthetic), view, ALONE)
    values = _distances(synthetic, pairs.synthetic, train, pairs.real, view, extractor)
    draws = bootstrap_means(values, pairs.masks, view.settings.resamples, _rng(view, "lpips_paired", extractor))
    return _score("lpips_paired", extractor, values, draws, len(values), view)


def _intra_mask(synthetic: ImageSet, view: View, extractor: str) -> Score:
    name = "lpips_intra_mask"
    copies, sources = _gathered([mask(row) for row in synthetic], synthetic), families(synthetic)
    limit = max(1, PAIRS // len(copies))
    pairs = [
        (sources[rows[a]], rows[a], rows[b])
        for mask_id, rows in copies.items()
        for a, b in draw_pairs(len(rows), limit, seeding.numpy_rng(view.seed, name, mask_id))
    ]
    if not pairs:
        return _absent(name, extractor, len(synthetic), view, "one image per mask; two copies make a pair")
    masks, first, second = map(list, zip(*pairs, strict=True))
    values = _distances(synthetic, first, synthetic, second, view, extractor)
    draws = bootstrap_means(values, masks, view.settings.resamples, _rng(view, name, extractor))
    return _score(name, extractor, values, draws, len({*first, *second}), view)


def _intra_set(train: ImageSet, synthetic: ImageSet, view: View, extractor: str) -> Score:
    name, made = "lpips_intra_set", _gathered(families(synthetic), synthetic)
    masks = sorted(made)
    if len(masks) < 2:
        return _absent(name, extractor, len(synthetic), view, "images of one mask only; a pair needs two masks")
    pairs = draw_pairs(len(masks), PAIRS, seeding.numpy_rng(view.seed, name))
    first, second = ([masks[k] for k in side] for side in pairs.T)

    def between(images: ImageSet, rows: dict[str, list[int]]) -> Array:
        return _distances(images, [rows[m][0] for m in first], images, [rows[m][0] for m in second], view, extractor)

    values = between(synthetic, made)
    draws = bootstrap_pairs(values, pairs, view.settings.resamples, _rng(view, name, extractor))
    there = _gathered(families(train), train)
    floor = float(between(train, there).mean()) if set(masks) <= set(there) else None
    return _score(name, extractor, values, draws, len(masks), view, floor)


def _gathered(names: Sequence[str], images: ImageSet) -> dict[str, list[int]]:
    """Row numbers by name (one per image), the names in order, first copies first."""
    order = sorted(range(len(images)), key=lambda k: (names[k], images.rows[k]["copy"]))
    return {name: list(rows) for name, rows in itertools.groupby(order, key=lambda k: names[k])}


def _distances(
    one: ImageSet, rows_of_one: list[int], other: ImageSet, rows_of_other: list[int], view: View, extractor: str
) -> Array:
    def chosen(images: ImageSet, numbers: list[int]) -> list[Row]:
        return [images.rows[k] for k in numbers]

    first, second = one.select(chosen(one, rows_of_one)), other.select(chosen(other, rows_of_other))
    return view.distances(first, second, extractor).astype(np.float64)


def _rng(view: View, name: str, extractor: str) -> np.random.Generator:
    return seeding.numpy_rng(view.seed, name, extractor, "bootstrap")


def _name(kind: str, extractor: str) -> str:
    return f"{kind}.{extractor.removeprefix(PREFIX)}"


def _absent(kind: str, extractor: str, n: int, view: View, reason: str) -> Score:
    return Score(_name(kind, extractor), None, n, DIRECTIONS[kind], view.seed, reason=reason)


def _score(
    kind: str, extractor: str, values: Array, draws: Array, n: int, view: View, floor: float | None = None
) -> Score:
    ends = percentile_interval(draws)
    return Score(_name(kind, extractor), float(values.mean()), n, DIRECTIONS[kind], view.seed, "", *ends, floor)
