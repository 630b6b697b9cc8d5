"""LPIPS, a perceptual distance of image pairs, in three variants with two directions.

paired: a synthetic image and the real image whose mask conditioned it; lower is more like the real one.
intra_mask: copies of one mask; higher is more diverse. intra_set: images of different masks (the first copies), drawn
at random; higher is more diverse, and its floor is that of the real images of the same masks. Intervals: bootstrap over
groups (patients, sequences) where they are known, else over masks. Named after the net: lpips_paired.alex is the
extractor lpips_alex.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet, Row
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._groups import units_of
from pipeline.methods.image_metrics._partners import ALONE, column, families, mask, partners
from pipeline.metrics.images.arrays import Array
from pipeline.metrics.images.score import Direction, ScoreResult
from pipeline.metrics.images.similarity import bootstrap_pairs, draw_pairs
from pipeline.metrics.statistics.grouped import labels_of, percentile
from pipeline.metrics.statistics.resampling import bootstrap_means

DIRECTIONS: dict[str, Direction] = {"lpips_paired": "lower", "lpips_intra_mask": "higher", "lpips_intra_set": "higher"}
PREFIX = "lpips_"  # of the extractors
DEFAULT = "lpips_alex"
PAIRS = 500  # of images drawn for each diversity; at least one per mask for intra_mask


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return lpips_paired, lpips_intra_mask and lpips_intra_set for every net in `score.extractors`, else for alex."""
    scores: list[ScoreResult] = []
    for extractor in _nets(store):
        if reason := store.missing(extractor):
            scores += [_absent(kind, extractor, len(synthetic), store, reason) for kind in DIRECTIONS]
            continue
        scores.append(_paired(real, synthetic, store, extractor))
        scores.append(_intra_mask(real, synthetic, store, extractor))
        scores.append(_intra_set(real, synthetic, store, extractor))
    return scores


def per_image(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> dict[str, list[float | None]]:
    """Return the column lpips_paired of images.csv, by the first usable net."""
    usable = [name for name in _nets(store) if not store.missing(name)]
    if not usable:
        return {}
    train = real.split("train")
    pairs = partners(train, synthetic)
    values = _distances(synthetic, pairs.synthetic, train, pairs.real, store, usable[0])
    return {"lpips_paired": column(pairs, values, len(synthetic))}


def _nets(store: FeatureStore) -> list[str]:
    return [name for name in store.extractors("distances") if name.startswith(PREFIX)] or [DEFAULT]


def _paired(real: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str) -> ScoreResult:
    train = real.split("train")
    pairs = partners(train, synthetic)
    if not pairs.masks:
        return _absent("lpips_paired", extractor, len(synthetic), store, ALONE)
    values = _distances(synthetic, pairs.synthetic, train, pairs.real, store, extractor)
    units = units_of(pairs.masks, real)
    draws = bootstrap_means(values, units.names, store.settings.resamples, _rng(store, "lpips_paired", extractor))
    return _score("lpips_paired", extractor, values, len(values), store).within(percentile(draws, units))


def _intra_mask(real: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str) -> ScoreResult:
    name = "lpips_intra_mask"
    copies, sources = _rows_by_name([mask(row) for row in synthetic], synthetic), families(synthetic)
    limit = max(1, PAIRS // len(copies))
    pairs = [
        (sources[rows[a]], rows[a], rows[b])
        for mask_id, rows in copies.items()
        for a, b in draw_pairs(len(rows), limit, seeding.numpy_rng(store.seed, name, mask_id))
    ]
    if not pairs:
        return _absent(name, extractor, len(synthetic), store, "one image per mask; two copies make a pair")
    masks, first, second = map(list, zip(*pairs, strict=True))
    values = _distances(synthetic, first, synthetic, second, store, extractor)
    units = units_of(masks, real)
    draws = bootstrap_means(values, units.names, store.settings.resamples, _rng(store, name, extractor))
    return _score(name, extractor, values, len({*first, *second}), store).within(percentile(draws, units))


def _intra_set(real: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str) -> ScoreResult:
    train = real.split("train")
    name, generated = "lpips_intra_set", _rows_by_name(families(synthetic), synthetic)
    masks = sorted(generated)
    if len(masks) < 2:
        return _absent(name, extractor, len(synthetic), store, "images of one mask only; a pair needs two masks")
    pairs = draw_pairs(len(masks), PAIRS, seeding.numpy_rng(store.seed, name))
    first, second = ([masks[k] for k in side] for side in pairs.T)

    def distances(images: ImageSet, rows: dict[str, list[int]]) -> Array:
        return _distances(images, [rows[m][0] for m in first], images, [rows[m][0] for m in second], store, extractor)

    values = distances(synthetic, generated)
    units = units_of(masks, real)
    rng, clusters = _rng(store, name, extractor), labels_of(units.names)
    draws = bootstrap_pairs(values, pairs, store.settings.resamples, rng, clusters)
    in_train = _rows_by_name(families(train), train)
    floor = float(distances(train, in_train).mean()) if set(masks) <= set(in_train) else None
    return _score(name, extractor, values, len(masks), store, floor).within(percentile(draws, units))


def _rows_by_name(names: Sequence[str], images: ImageSet) -> dict[str, list[int]]:
    """Return row indices by name (one name per image), names sorted, first copies first."""
    order = sorted(range(len(images)), key=lambda k: (names[k], images.rows[k]["copy"]))
    return {name: list(rows) for name, rows in itertools.groupby(order, key=lambda k: names[k])}


def _distances(
    one: ImageSet,
    rows_of_one: list[int],
    other: ImageSet,
    rows_of_other: list[int],
    store: FeatureStore,
    extractor: str,
) -> Array:
    def rows_of(images: ImageSet, indices: list[int]) -> list[Row]:
        return [images.rows[k] for k in indices]

    first, second = one.select(rows_of(one, rows_of_one)), other.select(rows_of(other, rows_of_other))
    return store.distances(first, second, extractor).astype(np.float64)


def _rng(store: FeatureStore, name: str, extractor: str) -> np.random.Generator:
    return seeding.numpy_rng(store.seed, name, extractor, "bootstrap")


def _name(kind: str, extractor: str) -> str:
    return f"{kind}.{extractor.removeprefix(PREFIX)}"


def _absent(kind: str, extractor: str, n: int, store: FeatureStore, reason: str) -> ScoreResult:
    return ScoreResult(_name(kind, extractor), None, n, DIRECTIONS[kind], store.seed, reason=reason)


def _score(
    kind: str, extractor: str, values: Array, n: int, store: FeatureStore, floor: float | None = None
) -> ScoreResult:
    name, value = _name(kind, extractor), float(values.mean())
    return ScoreResult(name, value, n, DIRECTIONS[kind], store.seed, floor=floor)
