"""Copies of training images: distances to the nearest one, and which distances are too small to be chance.

A statistic is small for a copy. It is calibrated on the same statistic of held-out real images, which cannot be copies;
the share of them that would be called copies is the false-alarm rate. Evidence of pixels and of features is added: few
images that are not copies are near one training image in both.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from pipeline.metrics.images.arrays import Array, Features

SHIFT = 3  # pixels of a thumbnail, each way; windows are compared at half the resolution, so these are half steps
FLIPS = ("", "horizontal", "vertical", "both")
BLOCK = 256  # images compared at once: memory stays below BLOCK x training images
TAIL = 0.1  # share of held-out images whose distance from the median is the unit of a statistic
CONFIDENCE = 0.99  # that no more than the tolerated share of all held-out images is beyond a threshold
FRESH = 0.05  # chance that more than the stated share of 1 / share new images is beyond it nevertheless
LEAST = 1e-6  # smaller statistics are clamped to this value
Excluded = Sequence[Sequence[int]]  # per image the training images it is not compared with; empty: none


@dataclass(frozen=True)
class Nearest:
    """The nearest training image of each of N images."""

    index: NDArray[np.int64]
    distance: Array
    statistic: Array  # to be calibrated; small for a copy
    flip: NDArray[np.int64]  # index into FLIPS: how the image is mirrored for the best match


# --- nearest training images ---------------------------------------------------------------------------------------


def nearest_features(rows: Features, train: Features, neighbours: int, excluded: Excluded = ()) -> Nearest:
    """Find nearest training images by distance |a - b| of unit rows.

    The statistic is the smallest distance over the mean of the `neighbours` smallest. This ratio distinguishes a copy
    from an image in a dense region, where everything is near (Carlini et al. 2023, sec. 5).
    """
    unit, unit_train = _unit(rows), _unit(train)
    left = len(train) - max(map(len, excluded), default=0)
    count = min(neighbours, left)
    blocks = [_nearest_features(unit[part], unit_train, count, excluded[part]) for part in _blocks(len(rows))]
    index, distance, ratio = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return Nearest(index, distance, ratio, np.zeros(len(rows), np.int64))


def _nearest_features(
    unit: Features, train: Features, count: int, excluded: Excluded
) -> tuple[NDArray[np.int64], Array, Array]:
    distance = np.sqrt(np.maximum(2 - 2 * (unit @ train.T), 0)).astype(np.float64)
    for row, left_out in zip(distance, excluded, strict=False):
        row[[*left_out]] = np.inf
    index = distance.argmin(1)
    least = distance[np.arange(len(unit)), index]
    return index, least, _ratio(distance, count)


def nearest_pixels(thumbnails: Features, train: Features, excluded: Excluded = ()) -> Nearest:
    """Find nearest training images by 1 - the largest correlation of grey thumbnails [N, S, S] over flips and shifts.

    The centre of every training thumbnail is compared with all windows of the image that are shifted by up to SHIFT
    pixels; windows are standardised, so that brightness and contrast do not count. The statistic is the distance.
    """
    centres = _windows_of(train, SHIFT, SHIFT).T
    blocks = [_nearest_pixels(thumbnails[part], centres, excluded[part]) for part in _blocks(len(thumbnails))]
    index, distance, flip = (np.concatenate(part) for part in zip(*blocks, strict=True))
    return Nearest(index, distance, distance, flip)


def _nearest_pixels(
    thumbnails: Features, centres: Features, excluded: Excluded
) -> tuple[NDArray[np.int64], Array, NDArray[np.int64]]:
    best = np.full(len(thumbnails), -np.inf)
    index, flip = np.zeros((2, len(thumbnails)), np.int64)
    shifts = [(down, right) for down in range(2 * SHIFT + 1) for right in range(2 * SHIFT + 1)]
    for number, flipped in enumerate(_flips(thumbnails)):
        for down, right in shifts:
            correlation = _windows_of(flipped, down, right) @ centres
            for row, left_out in zip(correlation, excluded, strict=False):
                row[[*left_out]] = -np.inf
            nearest = correlation.argmax(1)
            value = correlation[np.arange(len(nearest)), nearest]
            better = value > best
            best[better], index[better], flip[better] = value[better], nearest[better], number
    return index, np.maximum(1 - best, 0), flip


def _flips(thumbnails: Features) -> Iterator[Features]:
    """Yield the thumbnails mirrored in the order of FLIPS."""
    for down, right in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        yield thumbnails[:, ::down, ::right]


def _windows_of(thumbnails: Features, down: int, right: int) -> Features:
    """Return the window [S - 2 SHIFT]^2 at one shift of each thumbnail, halved, as a row of mean 0 and length 1."""
    half = thumbnails.shape[1] // 2 - SHIFT
    window = thumbnails[:, down : down + 2 * half, right : right + 2 * half].astype(np.float32)
    rows = window.reshape(-1, half, 2, half, 2).mean((2, 4)).reshape(-1, half * half)
    return _unit(rows - rows.mean(1, keepdims=True))


def _unit(rows: Features) -> Features:
    wide = rows.astype(np.float32)
    return wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-6)


def _ratio(distance: Array, count: int) -> Array:
    """Return the smallest of each row over the mean of its `count` smallest; 1 where all of them are 0."""
    least = np.partition(distance, count - 1, axis=1)[:, :count]
    mean = least.mean(1)
    return np.divide(least.min(1), mean, out=np.ones(len(least)), where=mean > 0)


def _blocks(count: int) -> Iterator[slice]:
    for start in range(0, count, BLOCK):
        yield slice(start, start + BLOCK)


# --- calibration ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Calibration:
    """Calibration of K statistics on held-out images; the first statistic is that of pixels."""

    middle: Array  # [K] median of the logarithms
    unit: Array  # [K] from there down to the quantile TAIL
    held: Array  # [H] evidence of the held-out images
    threshold: float  # an image with more evidence is called a copy
    level: float  # the mean false-alarm rate that the threshold guarantees, whatever the statistics' distribution

    def closeness(self, statistics: Array) -> Array:
        """Return [N, K]: how many units each log statistic lies below the median; large for a copy."""
        return (self.middle - _log(statistics)) / self.unit

    def p(self, evidence: Array) -> Array:
        """Return conformal p-values of the evidence [N]; uniform for held-out images."""
        beyond = len(self.held) - np.searchsorted(np.sort(self.held), evidence, side="left")
        return (1 + beyond) / (1 + len(self.held))

    def limits(self) -> Array:
        """Return [K] values below which each statistic alone, the others at their medians, makes an image a suspect."""
        return np.exp(self.middle - self.threshold * self.unit)


def evidence(closeness: Array) -> Array:
    """Return evidence [N] of closenesses [N, K]: that in pixels plus the largest in a feature space.

    Below the median the chance of being a unit closer is about the same in every space, so that a sum of closenesses
    is a sum of log-probabilities (Fisher 1932).
    """
    return closeness[:, 0] + (closeness[:, 1:].max(1) if closeness.shape[1] > 1 else 0)


def calibrate(statistics: Array, rate: float) -> Calibration:
    """Calibrate K statistics on held-out images [H, K] by their evidence.

    With k = rate (H + 1), rounded down, the threshold is at least the k-th largest evidence, so that a new held-out
    image is beyond it with probability k / (H + 1) at most, the level (Vovk et al. 2005, conformal prediction). Below
    1 / rate - 1 images k is 1 and the level larger than `rate`. This holds on average over calibrations; so that each
    one keeps `rate` on new images, the threshold is also at least the tolerance limit (`tail_limit`) of
    `tolerated(rate)`. The fewer the images, the higher that limit.
    """
    logs = _log(statistics)
    middle = np.median(logs, axis=0)
    unit = np.maximum(middle - np.quantile(logs, TAIL, axis=0), LEAST)
    held = evidence((middle - logs) / unit)
    k = max(1, int(rate * (len(held) + 1) * (1 + 1e-12)))
    threshold = max(float(np.sort(held)[-k]), tail_limit(held, tolerated(rate)))
    return Calibration(middle, unit, held, threshold, k / (len(held) + 1))


def tolerated(rate: float) -> float:
    """Return the share of which 1 / rate images hold two or more with probability FRESH (Garwood 1936).

    One of 1 / rate images is `rate`. In more images than that a larger share is even less likely.
    """
    return float(rate * stats.chi2.ppf(FRESH, 4) / 2)


def tail_limit(values: Array, rate: float, share: float = 0.1, confidence: float = CONFIDENCE) -> float:
    """Return a limit that, with this confidence, at most `rate` of the population exceeds; -inf if rate >= share.

    The excesses over the quantile 1 - `share` are modelled as exponential; twice their sum over their mean is
    chi-square with two degrees of freedom for each (Epstein & Sobel 1953), which bounds the mean from above.
    """
    start = float(np.quantile(values, 1 - share))
    excess = values[values > start] - start
    if rate >= share or not len(excess):
        return -np.inf
    mean = 2 * excess.sum() / stats.chi2.ppf(1 - confidence, 2 * len(excess))
    return float(start + mean * np.log(share / rate))


def _log(statistics: Array) -> Array:
    return np.log(np.maximum(statistics, LEAST))


# --- shares and tests ----------------------------------------------------------------------------------------------


def closer_share(first: Array, second: Array) -> float:
    """Return the share of pairs in which the first is larger, ties half (Mann & Whitney 1947); 0.5 if both agree."""
    ranks = stats.rankdata(np.concatenate([first, second]))
    return _share(ranks[: len(first)].sum(), len(first), len(second))


def permutation_p(first: Array, second: Array, permutations: int, rng: np.random.Generator) -> float:
    """Return the one-sided p-value of `closer_share` by permuting labels; never below 1 / (permutations + 1)."""
    ranks = stats.rankdata(np.concatenate([first, second]))
    observed = ranks[: len(first)].sum()
    drawn = np.array([rng.permutation(ranks)[: len(first)].sum() for _ in range(permutations)])
    return float((1 + (drawn >= observed - 1e-9).sum()) / (1 + permutations))


def _share(rank_sum: float, first: int, second: int) -> float:
    return float((rank_sum - first * (first + 1) / 2) / (first * second))
