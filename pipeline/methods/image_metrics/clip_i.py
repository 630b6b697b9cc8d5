"""CLIP-I: cosine similarity of CLIP embeddings of synthetic and real images, in the three variants of the literature.

paired: with the real image whose mask conditioned the synthetic one. pairwise: mean over all pairs. nearest: with the
nearest real image (high also where images are copied). `clip_i_*` is CLIP ViT-B/32, `clip_i_*_l14_336` ViT-L/14 at 336
pixels; on any other extractor they are called cosine_*. All synthetic images are used; real ones are those of the
training split, or (heldout) of the test split. Floors: the real images of the other of these splits.

Intervals: bootstrap over masks for paired and nearest; jackknife over groups of masks for pairwise, where a mask's
synthetic and training images leave together.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.core import seeding
from pipeline.data.image_set import ImageSet
from pipeline.methods.image_metrics._contract import FeatureStore
from pipeline.methods.image_metrics._partners import ALONE, column, families, partners
from pipeline.methods.image_metrics._pieces import GROUPS
from pipeline.metrics.images.arrays import Array
from pipeline.metrics.images.neighbours import nearest
from pipeline.metrics.images.score import Direction, ScoreResult
from pipeline.metrics.images.similarity import cosine, mean_cosine, mean_cosine_without
from pipeline.metrics.statistics.resampling import bootstrap_means, jackknife_interval, percentile_interval

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


def score(real: ImageSet, synthetic: ImageSet, store: FeatureStore) -> list[ScoreResult]:
    """Return clip_i_paired, clip_i_pairwise and clip_i_nearest, and the same on every other extractor of rows."""
    scores: list[ScoreResult] = []
    for extractor in _extractors(store):
        if reason := store.missing(extractor):
            scores += [_absent(kind, extractor, synthetic, store, reason, variant) for kind, variant in KINDS]
            continue
        scores.append(_paired(real.split("train"), synthetic, store, extractor))
        for variant, name, other in (("train", "train", "test"), ("heldout", "test", "train")):
            reference, stand_in = real.split(name), real.split(other)
            scores.append(_pairwise(reference, synthetic, stand_in, store, extractor, variant))
            scores.append(_nearest(reference, synthetic, stand_in, store, extractor, variant))
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


def _paired(train: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str) -> ScoreResult:
    pairs = partners(train, synthetic)
    if not pairs.masks:
        return _absent("paired", extractor, synthetic, store, ALONE)
    name, values = _name("paired", extractor), _paired_values(train, synthetic, store, extractor)
    low, high = _interval(values, pairs.masks, store, name)
    return ScoreResult(name, float(values.mean()), len(values), DIRECTION, store.seed, "", low, high)


def _nearest(
    reference: ImageSet, synthetic: ImageSet, stand_in: ImageSet, store: FeatureStore, extractor: str, variant: str
) -> ScoreResult:
    name, values = _name("nearest", extractor), _nearest_values(reference, synthetic, store, extractor)
    low, high = _interval(values, families(synthetic), store, f"{name}/{variant}")
    floor = float(_nearest_values(reference, stand_in, store, extractor).mean())
    return ScoreResult(name, float(values.mean()), len(values), DIRECTION, store.seed, variant, low, high, floor)


def _pairwise(
    reference: ImageSet, synthetic: ImageSet, stand_in: ImageSet, store: FeatureStore, extractor: str, variant: str
) -> ScoreResult:
    real, generated, other = (store.features(images, extractor) for images in (reference, synthetic, stand_in))
    value, low, high = mean_cosine(generated, real), None, None
    count = min(GROUPS, len(set(families(synthetic))), len(set(families(reference))))
    if count > 1:
        groups = [_groups(images, count, store.seed) for images in (synthetic, reference)]
        low, high = jackknife_interval(value, mean_cosine_without(generated, real, *groups), count)
        high = min(high, 1.0)
    floor = mean_cosine(other, real)
    return ScoreResult(
        _name("pairwise", extractor), value, len(generated), DIRECTION, store.seed, variant, low, high, floor
    )


def _groups(images: ImageSet, count: int, seed: int) -> NDArray[np.int64]:
    """Return a jackknife group per image: masks in seeded order, so that equal masks get equal groups in every set."""
    order = sorted(set(families(images)), key=lambda mask: seeding.number(seed, "groups", mask))
    group_of = {mask: k % count for k, mask in enumerate(order)}
    return np.array([group_of[mask] for mask in families(images)])


def _paired_values(train: ImageSet, synthetic: ImageSet, store: FeatureStore, extractor: str) -> Array:
    pairs = partners(train, synthetic)
    generated, real = store.features(synthetic, extractor), store.features(train, extractor)
    return cosine(generated[pairs.synthetic], real[pairs.real])


def _nearest_values(reference: ImageSet, images: ImageSet, store: FeatureStore, extractor: str) -> Array:
    _, distance = nearest(store.features(images, extractor), store.features(reference, extractor))
    return 1 - distance


def _interval(values: Array, masks: list[str], store: FeatureStore, name: str) -> tuple[float, float]:
    draws = bootstrap_means(values, masks, store.settings.resamples, seeding.numpy_rng(store.seed, name, "bootstrap"))
    return percentile_interval(draws)
