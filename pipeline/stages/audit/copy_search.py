"""Find the synthetic images that are copies of training images, calibrated on real held-out images.

The images without masks that the base was pretrained on are training images too.

Nearest training images are found in pixels, flips and small shifts included, and in feature spaces. All distances are
combined (metrics.images.copies), so that at most the stated share of held-out images would be called copies.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core import seeding
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data import hashing
from pipeline.data.image_set import ImageSet
from pipeline.evaluation import feature_cache
from pipeline.evaluation.feature_cache import FeatureCache
from pipeline.metrics.images import copies
from pipeline.metrics.images.copies import Calibration, Excluded, Nearest
from pipeline.networks.pretrained import Unavailable
from pipeline.stages.audit import drawn_lesions, own_images, training_images
from pipeline.stages.audit.drawn_lesions import DrawnLesions
from pipeline.stages.audit.own_images import OwnImages
from pipeline.stages.audit.params import Audit
from pipeline.stages.audit.training_images import TrainingImages
from pipeline.stages.score.params import Score

SPACES = 2  # feature spaces, where audit.extractors names none
SIDE, LOCAL = 56, 15  # pixels of a thumbnail, and of the square whose mean is subtracted
SAME = 0.05  # pixel distance below which a held-out image is a near-duplicate; other pictures are beyond 0.17
PIXELS, HASHES = "pixels", "look"


class Thumbnails:
    """Grey thumbnails without their local mean (a Probe): neither light nor fine compression noise counts."""

    id = f"thumbnails-{SIDE}-{LOCAL}-1"

    def __call__(self, images: Tensor) -> NDArray[np.float16]:
        """Return [B, SIDE, SIDE] of [B, 3, H, W] uint8."""
        luma = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
        level = (images.float() * luma).sum(1, keepdim=True)
        small = F.interpolate(level, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        mean = F.avg_pool2d(F.pad(small, (LOCAL // 2,) * 4, mode="reflect"), LOCAL, stride=1)
        return (small - mean)[:, 0].cpu().numpy().astype(np.float16)


class PerceptualHashes:
    """Perceptual hashes (a Probe), as the stage prepare uses them."""

    id = "looks-1"

    def __call__(self, images: Tensor) -> NDArray[np.bool_]:
        """Return [B, bits] of [B, 3, H, W] uint8."""
        return np.stack([hashing.perceptual_hash(image) for image in images.cpu().numpy()])


@dataclass(frozen=True)
class Findings:
    """The results of an audit of N synthetic images; rows of arrays are in the order of `synthetic`."""

    train: TrainingImages
    synthetic: ImageSet
    nearest: Mapping[str, Nearest]  # by space, pixels first
    closeness: NDArray[np.float64]  # [N, spaces]
    calibration: Calibration
    left_out: tuple[str, ...]  # held-out images that look like a training image
    near_share: float  # chance that a synthetic image is closer than a held-out one (first copies)
    near_p: float
    unavailable: Mapping[str, str]  # extractors without weights, with the reason
    lesions: DrawnLesions | None = None  # drawn into real backgrounds; None: no image keeps one
    own: OwnImages | None = None  # of the masks that were made of training masks; None: no mask was

    @property
    def evidence(self) -> NDArray[np.float64]:
        """Closeness [N] in pixels plus that in the feature space in which each image is closest."""
        return copies.evidence(self.closeness)

    @property
    def suspect(self) -> NDArray[np.bool_]:
        """Images [N] beyond the threshold, or near-duplicates in pixels (which no image of the calibration is)."""
        return (self.evidence > self.calibration.threshold) | (self.nearest[PIXELS].distance < SAME)

    @property
    def limits(self) -> NDArray[np.float64]:
        """Values [spaces] below which the statistic of each space alone makes an image a suspect."""
        limits = self.calibration.limits()
        return np.maximum(limits, [SAME if name == PIXELS else 0 for name in self.nearest])


def open_spaces(audit: Audit, score: Score, seed: int, runtime: Runtime) -> FeatureCache:
    """Return a cache with the audit's feature spaces, the thumbnails and the perceptual hashes."""
    probes: dict[str, Any] = {}
    unavailable: dict[str, str] = {}
    for name in _row_extractors(audit, score):
        if len(probes) == SPACES and not audit.extractors:
            break
        try:
            probes[name] = feature_cache.build_extractor(name, score)
        except Unavailable as error:
            unavailable[name] = str(error)
    probes |= {PIXELS: Thumbnails(), HASHES: PerceptualHashes()}
    return FeatureCache(probes, {}, unavailable, score, seed, runtime)


def _row_extractors(audit: Audit, score: Score) -> Iterator[str]:
    """Yield the candidates that compute feature rows. Raises UserError where audit.extractors names another."""
    for name in audit.candidate_extractors(score.extractors):
        if feature_cache.output_of(name) == "rows":
            yield name
        elif audit.extractors:
            raise UserError(f"audit.extractors: {name} compares pairs and gives no feature rows; choose another one")


def find_copies(
    real: ImageSet,
    synthetic: ImageSet,
    cache: FeatureCache,
    audit: Audit,
    stream: str,
    unlabelled: ImageSet | None = None,
) -> Findings:
    """Search for copies of training images and of the `unlabelled` images that the base was pretrained on.

    `stream` names the permutation test's random numbers. Raises UserError on too few images.
    """
    held_out = training_images.held_out(real, unlabelled)
    _check_sets(real.split("train"), held_out, synthetic)
    train = TrainingImages(real.split("train"), unlabelled)
    of_synthetic = _nearest(synthetic, train, cache, audit.neighbours, train.excluded(synthetic))
    of_held_out = _nearest(held_out, train, cache, audit.neighbours)
    distinct = _distinct(train, held_out, of_held_out[PIXELS], cache)
    calibration = copies.calibrate(_statistics(of_held_out)[distinct], audit.false_alarms)
    closeness = calibration.closeness(_statistics(of_synthetic))
    first = np.array([row["copy"] == 0 for row in synthetic])
    sides = copies.evidence(closeness[first]), copies.evidence(calibration.closeness(_statistics(of_held_out)))
    rng = seeding.numpy_rng(cache.seed, "audit", stream)
    return Findings(
        train,
        synthetic,
        of_synthetic,
        closeness,
        calibration,
        left_out=tuple(row["id"] for row, is_distinct in zip(held_out, distinct, strict=True) if not is_distinct),
        near_share=copies.closer_share(*sides),
        near_p=copies.permutation_p(*sides, audit.permutations, rng),
        unavailable=cache.unavailable,
        lesions=drawn_lesions.compare(synthetic, real.split("train"), cache, PIXELS),
        own=own_images.compare(synthetic, train, cache, PIXELS),
    )


def _nearest(
    images: ImageSet, train: TrainingImages, cache: FeatureCache, neighbours: int, excluded: Excluded = ()
) -> dict[str, Nearest]:
    """Return the nearest training images by space; one pass over the images computes all spaces."""
    nearest = {PIXELS: copies.nearest_pixels(cache.features(images, PIXELS), train.features(cache, PIXELS), excluded)}
    for name in cache.probes:
        if name not in (PIXELS, HASHES):
            rows = cache.features(images, name), train.features(cache, name)
            nearest[name] = copies.nearest_features(*rows, neighbours, excluded)
    return nearest


def _statistics(nearest: Mapping[str, Nearest]) -> NDArray[np.float64]:
    return np.stack([space.statistic for space in nearest.values()], axis=1)


def _distinct(train: TrainingImages, held_out: ImageSet, pixels: Nearest, cache: FeatureCache) -> NDArray[np.bool_]:
    """Return which held-out images have no near-duplicate in training, by perceptual hash and by pixels."""
    hashes = [*train.features(cache, HASHES), *cache.features(held_out, HASHES)]
    distinct = pixels.distance >= SAME
    for first, second, _ in hashing.near_duplicates(hashes):
        if first < len(train) <= second:
            distinct[second - len(train)] = False
    if distinct.sum() < 2:
        raise UserError(
            f"{len(held_out) - distinct.sum()} of {len(held_out)} held-out images look like training images, so nothing"
            " is left to calibrate the audit with; set data.near_duplicates to regroup, or add val and test images"
        )
    return distinct


def _check_sets(train: ImageSet, held_out: ImageSet, synthetic: ImageSet) -> None:
    if synthetic.spec != train.spec:
        raise UserError(
            f"{synthetic.folder} holds {synthetic.spec}, but {train.folder} holds {train.spec}; run generate again"
        )
    for name, images, least in (("train", train, 2), ("held-out", held_out, 2), ("synthetic", synthetic, 1)):
        if len(images) < least:
            raise UserError(f"{len(images)} {name} images in {images.folder}; the audit needs at least {least}")
    if all(row["copy"] for row in synthetic):
        raise UserError(f"{synthetic.folder} holds no first copy (copy 0); run generate again")
