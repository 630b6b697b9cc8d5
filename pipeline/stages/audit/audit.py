"""Audit: which synthetic images are copies of training images, judged by how near held-out real images come to these.

Nearest training images are found in pixels, flips and small shifts included, and in feature spaces. All distances are
read together (metrics.copies), so that of held-out images the stated share at most would be called copies.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core import plugins, seeding
from pipeline.core.errors import UserError
from pipeline.core.runtime import Runtime
from pipeline.data import hashing
from pipeline.data.image_set import ImageSet
from pipeline.evaluation import feature_cache
from pipeline.evaluation.feature_cache import View
from pipeline.metrics.images import copies
from pipeline.metrics.images.copies import Calibration, Nearest
from pipeline.networks.pretrained import Unavailable
from pipeline.study import Params

SPACES = 2  # feature spaces, where audit.extractors names none
SIDE, LOCAL = 56, 15  # pixels of a thumbnail, and of the square whose mean is taken out
SAME = 0.05  # pixel distance below which a held-out image is a near-duplicate; other pictures are beyond 0.17
PIXELS, LOOK = "pixels", "look"


class Thumbnails:
    """Grey thumbnails without their local mean (a view.Probe): neither light nor fine compression noise counts."""

    id = f"thumbnails-{SIDE}-{LOCAL}-1"

    def __call__(self, images: Tensor) -> NDArray[np.float16]:
        """[B, 3, H, W] uint8 -> [B, SIDE, SIDE]."""
        luma = torch.tensor([0.299, 0.587, 0.114], device=images.device).view(1, 3, 1, 1)
        level = (images.float() * luma).sum(1, keepdim=True)
        small = F.interpolate(level, (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
        mean = F.avg_pool2d(F.pad(small, (LOCAL // 2,) * 4, mode="reflect"), LOCAL, stride=1)
        return (small - mean)[:, 0].cpu().numpy().astype(np.float16)


class Looks:
    """Perceptual hashes (a view.Probe), as prepare uses them."""

    id = "looks-1"

    def __call__(self, images: Tensor) -> NDArray[np.bool_]:
        """[B, 3, H, W] uint8 -> [B, bits]."""
        return np.stack([hashing.look(image) for image in images.cpu().numpy()])


@dataclass(frozen=True)
class Findings:
    """What an audit found about N synthetic images; rows of arrays are in the order of `synthetic`."""

    train: ImageSet
    synthetic: ImageSet
    nearest: Mapping[str, Nearest]  # by space, pixels first
    closeness: NDArray[np.float64]  # [N, spaces]
    calibration: Calibration
    left_out: tuple[str, ...]  # held-out images that look like a training image
    near_share: float  # chance that a synthetic image is closer than a held-out one (first copies)
    near_p: float
    absent: Mapping[str, str]  # extractors without weights, with the reason

    @property
    def evidence(self) -> NDArray[np.float64]:
        """[N] closeness in pixels plus that in the feature space in which each image is closest."""
        return copies.evidence(self.closeness)

    @property
    def suspect(self) -> NDArray[np.bool_]:
        """[N] more evidence than the threshold, or a near-duplicate in pixels: no image that calibrates is one."""
        return (self.evidence > self.calibration.threshold) | (self.nearest[PIXELS].distance < SAME)

    @property
    def limits(self) -> NDArray[np.float64]:
        """[spaces] values below which the statistic of each space alone makes an image a suspect."""
        limits = self.calibration.limits()
        return np.maximum(limits, [SAME if name == PIXELS else 0 for name in self.nearest])


def open_spaces(params: Params, runtime: Runtime) -> View:
    """A view with the audit's feature spaces, the thumbnails and the perceptual hashes."""
    probes: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for name in _wanted(params):
        if len(probes) == SPACES and not params.audit.extractors:
            break
        try:
            probes[name] = feature_cache.build(name, params.score)
        except Unavailable as error:
            absent[name] = str(error)
    return View(probes | {PIXELS: Thumbnails(), LOOK: Looks()}, {}, absent, params.score, params.seed, runtime)


def _wanted(params: Params) -> Iterator[str]:
    """The candidates that give rows. Raises UserError where audit.extractors names another."""
    for name in params.audit_extractors:
        if plugins.load("features", name).GIVES == "rows":
            yield name
        elif params.audit.extractors:
            raise UserError(f"audit.extractors: {name} compares pairs and gives no feature rows; name another")


def audit(real: ImageSet, synthetic: ImageSet, seen: View, params: Params, stream: str) -> Findings:
    """Looks for copies; `stream` names the permutation test's random numbers. Raises UserError on too few images."""
    train = real.split("train")
    held = real.select(row for row in real if row["split"] != "train")
    _check(train, held, synthetic)
    made = _nearest(synthetic, train, seen, params.audit.neighbours)
    kept = _nearest(held, train, seen, params.audit.neighbours)
    alone = _alone(train, held, kept[PIXELS], seen)
    calibration = copies.calibrate(_statistics(kept)[alone], params.audit.false_alarms)
    closeness = calibration.closeness(_statistics(made))
    first = np.array([row["copy"] == 0 for row in synthetic])
    sides = copies.evidence(closeness[first]), copies.evidence(calibration.closeness(_statistics(kept)))
    rng = seeding.numpy_rng(params.seed, "audit", stream)
    return Findings(
        train, synthetic, made, closeness, calibration,
        left_out=tuple(row["id"] for row, fine in zip(held, alone, strict=True) if not fine),
        near_share=copies.closer_share(*sides),
        near_p=copies.permutation_p(*sides, params.audit.permutations, rng),
        absent=seen.absent,
    )  # fmt: skip


def _nearest(images: ImageSet, train: ImageSet, seen: View, neighbours: int) -> dict[str, Nearest]:
    """By space; every space is asked in one pass over the images."""
    found = {PIXELS: copies.nearest_pixels(seen.features(images, PIXELS), seen.features(train, PIXELS))}
    for name in seen.probes:
        if name not in (PIXELS, LOOK):
            rows = seen.features(images, name), seen.features(train, name)
            found[name] = copies.nearest_features(*rows, neighbours)
    return found


def _statistics(nearest: Mapping[str, Nearest]) -> NDArray[np.float64]:
    return np.stack([space.statistic for space in nearest.values()], axis=1)


def _alone(train: ImageSet, held: ImageSet, pixels: Nearest, seen: View) -> NDArray[np.bool_]:
    """Which held-out images have no near-duplicate among the training images, by perceptual hash and by pixels."""
    looks = [*seen.features(train, LOOK), *seen.features(held, LOOK)]
    alone = pixels.distance >= SAME
    for first, second, _ in hashing.near_pairs(looks):
        if first < len(train) <= second:
            alone[second - len(train)] = False
    if alone.sum() < 2:
        raise UserError(
            f"{len(held) - alone.sum()} of {len(held)} held-out images look like training images, so nothing is left to"
            " calibrate the audit with; set data.near_duplicates to regroup, or add val and test images"
        )
    return alone


def _check(train: ImageSet, held: ImageSet, synthetic: ImageSet) -> None:
    if synthetic.spec != train.spec:
        raise UserError(f"{synthetic.folder} holds {synthetic.spec}, {train.folder} {train.spec}; run generate again")
    for name, images, least in (("train", train, 2), ("held-out", held, 2), ("synthetic", synthetic, 1)):
        if len(images) < least:
            raise UserError(f"{len(images)} {name} images in {images.folder}; the audit needs at least {least}")
    if all(row["copy"] for row in synthetic):
        raise UserError(f"{synthetic.folder} holds no first copy (copy 0); run generate again")
