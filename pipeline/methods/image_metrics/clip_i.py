"""CLIP-I: cosine similarity of CLIP embeddings of synthetic and real images, in the three readings that papers have.

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
from pipeline.methods.image_metrics._partners import ALONE, column, families, partners
from pipeline.methods.image_metrics._view import GROUPS, View
from pipeline.metrics.images.neighbours import nearest
from pipeline.metrics.images.score import Direction, Score
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
Array = NDArray[np.float64]


def score(real: ImageSet, synthetic: ImageSet, view: View) -> list[Score]:
    """clip_i_paired, clip_i_pairwise and clip_i_nearest, always; the same on every other extractor of rows."""
    scores: list[Score] = []
    for extractor in _extractors(view):
        if reason := view.missing(extractor):
            scores += [_absent(kind, extractor, synthetic, view, reason, variant) for kind, variant in KINDS]
            continue
        scores.append(_paired(real.split("train"), synthetic, view, extractor))
        for variant, name, other in (("train", "train", "test"), ("heldout", "test", "train")):
            reference, stand_in = real.split(name), real.split(other)
            scores.append(_pairwise(reference, synthetic, stand_in, view, extractor, variant))
            scores.append(_nearest(reference, synthetic, stand_in, view, extractor, variant))
    return scores


def per_image(real: ImageSet, synthetic: ImageSet, view: View) -> dict[str, list[float | None]]:
    """The columns clip_i_paired and clip_i_nearest (training images) of images.csv, where CLIP ViT-B/32 is there."""
    if view.missing(DEFAULT):
        return {}
    train = real.split("train")
    pairs, values = partners(train, synthetic), _paired_values(train, synthetic, view, DEFAULT)
    near = _nearest_values(train, synthetic, view, DEFAULT)
    return {
        "clip_i_paired": column(pairs, values, len(synthetic)),
        "clip_i_nearest": [round(float(value), 6) for value in near],
    }


def _extractors(view: View) -> list[str]:
    return [DEFAULT, *(name for name in view.extractors("rows") if name != DEFAULT)]


def _name(kind: str, extractor: str) -> str:
    return f"clip_i_{kind}{CLIP[extractor]}" if extractor in CLIP else f"cosine_{kind}.{extractor}"


def _absent(kind: str, extractor: str, synthetic: ImageSet, view: View, reason: str, variant: str = "") -> Score:
    return Score(_name(kind, extractor), None, len(synthetic), DIRECTION, view.seed, variant, reason=reason)


def _paired(train: ImageSet, synthetic: ImageSet, view: View, extractor: str) -> Score:
    pairs = partners(train, synthetic)
    if not pairs.masks:
        return _absent("paired", extractor, synthetic, view, ALONE)
    name, values = _name("paired", extractor), _paired_values(train, synthetic, view, extractor)
    low, high = _interval(values, pairs.masks, view, name)
    return Score(name, float(values.mean()), len(values), DIRECTION, view.seed, "", low, high)


def _nearest(
    reference: ImageSet, synthetic: ImageSet, stand_in: ImageSet, view: View, extractor: str, variant: str
) -> Score:
    name, values = _name("nearest", extractor), _nearest_values(reference, synthetic, view, extractor)
    low, high = _interval(values, families(synthetic), view, f"{name}/{variant}")
    floor = float(_nearest_values(reference, stand_in, view, extractor).mean())
    return Score(name, float(values.mean()), len(values), DIRECTION, view.seed, variant, low, high, floor)


def _pairwise(
    reference: ImageSet, synthetic: ImageSet, stand_in: ImageSet, view: View, extractor: str, variant: str
) -> Score:
    real, made, other = (view.features(images, extractor) for images in (reference, synthetic, stand_in))
    value, low, high = mean_cosine(made, real), None, None
    count = min(GROUPS, len(set(families(synthetic))), len(set(families(reference))))
    if count > 1:
        groups = [_groups(images, count, view.seed) for images in (synthetic, reference)]
        low, high = jackknife_interval(value, mean_cosine_without(made, real, *groups), count)
        high = min(high, 1.0)
    floor = mean_cosine(other, real)
    return Score(_name("pairwise", extractor), value, len(made), DIRECTION, view.seed, variant, low, high, floor)


def _groups(images: ImageSet, count: int, seed: int) -> NDArray[np.int64]:
    """A jackknife group per image: masks in seeded order, so that equal masks get equal groups in every set."""
    order = sorted(set(families(images)), key=lambda mask: seeding.number(seed, "groups", mask))
    place = {mask: k % count for k, mask in enumerate(order)}
    return np.array([place[mask] for mask in families(images)])


def _paired_values(train: ImageSet, synthetic: ImageSet, view: View, extractor: str) -> Array:
    pairs = partners(train, synthetic)
    made, real = view.features(synthetic, extractor), view.features(train, extractor)
    return cosine(made[pairs.synthetic], real[pairs.real])


def _nearest_values(reference: ImageSet, images: ImageSet, view: View, extractor: str) -> Array:
    _, distance = nearest(view.features(images, extractor), view.features(reference, extractor))
    return 1 - distance


def _interval(values: Array, masks: list[str], view: View, name: str) -> tuple[float, float]:
    draws = bootstrap_means(values, masks, view.settings.resamples, seeding.numpy_rng(view.seed, name, "bootstrap"))
    return percentile_interval(draws)
