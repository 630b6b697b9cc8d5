"""CLIP-I: cosine similarity of CLIP embeddings of synthetic and real images, in the three variants of the literature.

paired: with the real image whose mask conditioned the synthetic one. pairwise: mean over all pairs. nearest: with the
nearest real image (high also where images are copied). `clip_i_*` is CLIP ViT-B/32, `clip_i_*_l14_336` ViT-L/14 at 336
pixels; on any other extractor they are called cosine_*. All synthetic images are used; real ones are those of the
training split, or (heldout) of the test split. Floors: the real images of the other of these splits.

Intervals: bootstrap over masks for paired and nearest; jackknife over blocks of masks for pairwise, where a mask's
synthetic and training images leave together. Where groups (patients, sequences) are known, they take the place of the
masks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._groups import image_units, units_of
from pipeline.methods.image_metrics._partners import ALONE, column, partners
from pipeline.metrics.images.arrays import Array
from pipeline.metrics.images.neighbours import nearest
from pipeline.metrics.images.score import Direction, ScoreResult
from pipeline.metrics.images.similarity import cosine, mean_cosine, mean_cosine_without
from pipeline.metrics.statistics.grouped import BLOCKS, Blocks, Interval, Units, blocks_by_unit, jackknife, percentile
from pipeline.metrics.statistics.resampling import bootstrap_means

DIRECTION: Direction = "higher"
CLIP = {"clip_b32": "", "clip_l14_336": "_l14_336"}  # suffix of the name
DEFAULT = "clip_b32"
KINDS = (  # and variants
    ("paired", ""),
    ("pairwise", "train"),
    ("nearest", "train"),
    ("pairwise", "heldout"),
    ("nearest", "heldout"),
)


@dataclass(frozen=True)
class _Compared:
    """What the synthetic images are compared with, the real images in their place, and the unit of each of them."""

    variant: str
    reference: ImageSet
    stand_in: ImageSet
    synthetic_units: Units


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return clip_i_paired, clip_i_pairwise and clip_i_nearest, and the same on every other extractor of rows."""
    scores: list[ScoreResult] = []
    for extractor in _extractors(store):
        if reason := store.missing(extractor):
            scores += [_absent(kind, extractor, synthetic, store, reason, variant) for kind, variant in KINDS]
            continue
        scores.append(_paired(real, synthetic, store, extractor))
        for variant, name, other in (("train", "train", "test"), ("heldout", "test", "train")):
            compared = _Compared(variant, real.split(name), real.split(other), image_units(synthetic, real))
            scores.append(_pairwise(compared, image_units(compared.reference, real), synthetic, store, extractor))
            scores.append(_nearest(compared, synthetic, store, extractor))
    return scores


def per_image(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> dict[str, list[float | None]]:
    """Return the columns clip_i_paired and clip_i_nearest (training images) of images.csv if CLIP B/32 is usable."""
    if store.missing(DEFAULT):
        return {}
    train = real.split("train")
    pairs, values = partners(train, synthetic), _paired_values(train, synthetic, store, DEFAULT)
    near = _nearest_values(train, synthetic, store, DEFAULT)
    return {
        "clip_i_paired": column(pairs, values, len(synthetic)),
        "clip_i_nearest": [round(float(value), 6) for value in near],
    }


def _extractors(store: FeatureStore) -> list[str]:
    return [DEFAULT, *(name for name in store.extractors("rows") if name != DEFAULT)]


def _name(kind: str, extractor: str) -> str:
    return f"clip_i_{kind}{CLIP[extractor]}" if extractor in CLIP else f"cosine_{kind}.{extractor}"


def _absent(
    kind: str, extractor: str, synthetic: ImageSet, store: FeatureStore, reason: str, variant: str = ""
) -> ScoreResult:
    return ScoreResult(_name(kind, extractor), None, len(synthetic), DIRECTION, store.seed, variant, reason=reason)


def _paired(real: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str) -> ScoreResult:
    train = real.split("train")
    pairs = partners(train, synthetic)
    if not pairs.masks:
        return _absent("paired", extractor, synthetic, store, ALONE)
    name, values = _name("paired", extractor), _paired_values(train, synthetic, store, extractor)
    score = ScoreResult(name, float(values.mean()), len(values), DIRECTION, store.seed)
    return score.within(_interval(values, units_of(pairs.masks, real), store, name))


def _nearest(compared: _Compared, synthetic: ImageSet, store: FeatureStore, extractor: str) -> ScoreResult:
    reference, variant = compared.reference, compared.variant
    name, values = _name("nearest", extractor), _nearest_values(reference, synthetic, store, extractor)
    floor = float(_nearest_values(reference, compared.stand_in, store, extractor).mean())
    score = ScoreResult(name, float(values.mean()), len(values), DIRECTION, store.seed, variant, floor=floor)
    return score.within(_interval(values, compared.synthetic_units, store, f"{name}/{variant}"))


def _pairwise(
    compared: _Compared, reference_units: Units, synthetic: ImageSet, store: FeatureStore, extractor: str
) -> ScoreResult:
    sets = compared.reference, synthetic, compared.stand_in
    real, generated, other = (store.features(images, extractor) for images in sets)
    value, blocks = mean_cosine(generated, real), _blocks(compared.synthetic_units, reference_units, store.seed)
    interval = jackknife(value, mean_cosine_without(generated, real, blocks.first, blocks.second), blocks, least=1)
    name, floor = _name("pairwise", extractor), mean_cosine(other, real)
    score = ScoreResult(name, value, len(generated), DIRECTION, store.seed, compared.variant, floor=floor)
    return score.within(interval.clipped(most=1.0))


def _blocks(synthetic: Units, reference: Units, seed: int) -> Blocks:
    """Return the jackknife block of every image: whole groups, else masks in seeded order.

    A mask with images in both sets is in one block.
    """
    if synthetic.are_groups or reference.are_groups:
        return blocks_by_unit(synthetic, reference)
    names = [
        sorted(set(side.names), key=lambda mask: seeding.number(seed, "groups", mask))
        for side in (synthetic, reference)
    ]
    shared = [mask for mask in names[0] if mask in set(reference.names)]
    count = min(BLOCKS, *map(len, names))
    sides = zip((synthetic, reference), names, strict=True)
    labels: list[NDArray[np.int64]] = []
    for side, masks in sides:
        place = {mask: k for k, mask in enumerate(dict.fromkeys([*shared, *masks]))}
        labels.append(np.array([place[mask] % count for mask in side.names]))
    return Blocks(labels[0], labels[1], count)


def _paired_values(train: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str) -> Array:
    pairs = partners(train, synthetic)
    generated, real = store.features(synthetic, extractor), store.features(train, extractor)
    return cosine(generated[pairs.synthetic], real[pairs.real])


def _nearest_values(reference: ImageSet, images: ImageSet, store: FeatureStore, extractor: str) -> Array:
    _, distance = nearest(store.features(images, extractor), store.features(reference, extractor))
    return 1 - distance


def _interval(values: Array, units: Units, store: FeatureStore, name: str) -> Interval:
    rng = seeding.numpy_rng(store.seed, name, "bootstrap")
    return percentile(bootstrap_means(values, units.names, store.settings.resamples, rng), units)
