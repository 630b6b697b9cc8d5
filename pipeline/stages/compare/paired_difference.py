"""Statistics of a paired difference, shared by arms and segmenters: tests, effect, required sizes.

Arms and segmenters differ in how their scores are paired and in which noise of seeds the difference has; both end in a
`PairedDifference`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from pipeline.core import seeding
from pipeline.metrics.statistics import power
from pipeline.metrics.statistics.paired import (
    Noise,
    Table,
    equivalence_p,
    half_width,
    p_value,
    two_level_bootstrap,
)
from pipeline.metrics.statistics.resampling import percentile_interval, sign_flip_p
from pipeline.stages.compare.params import Compare


@dataclass(frozen=True)
class PairedDifference:
    """Test scores minus those of the reference, paired by seed and image."""

    images: Table  # [seeds, images]
    units: Table  # [seeds, units]: one column per cluster of images where clusters are known, else per image
    unit_sums: NDArray[np.float64]  # [units] differences averaged over seeds, summed over the images of each unit
    mean: float
    noise: Noise  # of seeds
    generators: Table | None = None  # [generators, units] of a treatment with several trained generators, over seeds


@dataclass(frozen=True)
class Evidence:
    """A difference with its interval, and every p that a verdict rests on."""

    difference: float
    difference_low: float
    difference_high: float
    p: float  # for new seeds, new images and, where there are several, new trainings of the generator
    p_images: float  # for new images alone, by sign flips
    p_equivalent: float  # that the difference is not within the margin
    n_images: int
    n_seeds: int
    n_units: int  # clusters of images where they are known, else images
    n_generators: int = 1  # trainings of the generator; with one, the interval does not cover another training
    retrained_sd: float = 0.0  # of |difference| - half the interval, between two trainings of the segmenters


@dataclass(frozen=True)
class ImageEffect:
    """The spread of a difference over images."""

    effect_size: float | None  # Cohen's d_z over images, above 0: better
    share_improved: float
    worst_tenth: float  # mean difference of the tenth of the images that lose most


@dataclass(frozen=True)
class RequiredSizes:
    """The images or seeds with which a true difference of the margin would be found, and what this study finds."""

    images_needed: int | None = None
    seeds_needed: int | None = None
    detectable: float | None = None  # the smallest difference that this study finds as often


def weigh_evidence(
    difference: PairedDifference, compare: Compare, margin: float, seed: int, limit: float = np.inf
) -> Evidence:
    """Test a difference; its interval ends at +-limit. `seed` is the study's."""
    half, mean = half_width(difference.units, difference.noise, difference.generators), difference.mean
    width, signs = half.at(1 - compare.confidence), seeding.number(seed, "compare", "signs")
    n_seeds, n_images = difference.images.shape
    return Evidence(
        difference=mean,
        difference_low=max(mean - width, -limit),
        difference_high=min(mean + width, limit),
        p=p_value(abs(mean), half.at),
        p_images=sign_flip_p(difference.unit_sums, compare.resamples, signs),
        p_equivalent=equivalence_p(mean, half, margin),
        n_images=n_images,
        n_seeds=n_seeds,
        n_units=difference.units.shape[1],
        n_generators=1 if difference.generators is None else len(difference.generators),
        retrained_sd=retrained_sd(difference.noise, n_seeds, width, 1 - compare.confidence),
    )


def retrained_sd(noise: Noise, seeds: int, width: float, level: float) -> float:
    """Return the standard deviation of the change in |difference| - `width` between two trainings on the same images.

    Both trainings draw new noise of the seeds, and each estimates the part of `width` that this noise makes with as few
    degrees of freedom, by the delta method.
    """
    part = special.stdtrit(noise.df, level / 2) ** 2 * noise.variance / seeds
    of_width = part / width / np.sqrt(noise.df) if width > 0 else 0.0
    return float(np.sqrt(2 * noise.total / seeds + of_width**2))


def bootstrap_interval(difference: PairedDifference, compare: Compare, rng: np.random.Generator) -> tuple[float, float]:
    """Return the percentile interval of the two-level bootstrap, a second opinion on the interval of `Evidence`."""
    draws = two_level_bootstrap(difference.units[None], compare.resamples, rng)[:, 0]
    return percentile_interval(draws, compare.confidence)


def image_effect(difference: PairedDifference, sign: int = 1) -> ImageEffect:
    """Describe the differences of images, averaged over seeds; `sign` is -1 where less is better."""
    gains = sign * difference.images.mean(0)
    spread = gains.std(ddof=1) if len(gains) > 1 else 0.0
    return ImageEffect(
        effect_size=float(gains.mean() / spread) if spread > 0 else None,
        share_improved=float((gains > 0).mean()),
        worst_tenth=float(sign * np.sort(gains)[: max(1, len(gains) // 10)].mean()),
    )


def required_sizes(
    difference: PairedDifference, compare: Compare, margin: float, comparisons: int, to_images: Callable[[int], float]
) -> RequiredSizes:
    """Return the images or seeds needed at the strictest step of Holm's correction over so many `comparisons`.

    `to_images` converts a number of units. All None where there is one seed or one unit.
    """
    seeds, units = difference.units.shape
    if seeds < 2 or units < 2:
        return RequiredSizes()
    variances = power.variance_components(difference.units, difference.noise)
    level = (1 - compare.confidence) / comparisons
    needed = power.images_needed(margin, variances, seeds, level, compare.power)
    return RequiredSizes(
        images_needed=None if needed is None else int(np.ceil(to_images(needed))),
        seeds_needed=power.seeds_needed(margin, variances, units, level, compare.power),
        detectable=power.detectable(variances, seeds, units, level, compare.power),
    )
