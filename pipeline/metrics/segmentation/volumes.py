"""Scores of one structure in a volume: overlap, borders in millimetres, volume.

Two readings of empty masks. `counted` (this package's): where nothing was there, finding nothing is perfect (Dice, IoU
and NSD 1, distances 0) and finding something fails (0, and the volume's diagonal), so every mean is over all cases.
`left_out` (ImgX-DiffSeg's, with MONAI's NSD): two empty masks have no score at all, and no distance goes from or to an
empty mask; what has no value drops out of means, so that a missed structure costs no distance.
"""

from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.metrics.segmentation import boundary
from pipeline.metrics.segmentation.boundary import Mask

Spacing = tuple[float, ...]  # mm per voxel along each axis
EmptyRule = Literal["counted", "left_out"]
MILLILITRE = 1000.0  # mm^3


@dataclass(frozen=True)
class Overlap:
    """Voxels of two masks and those in common."""

    common: int
    found: int
    true: int

    @property
    def dice(self) -> float:
        """2|P and T| / (|P| + |T|); not a number where both are empty."""
        total = self.found + self.true
        return 2 * self.common / total if total else np.nan

    @property
    def iou(self) -> float:
        """|P and T| / |P or T|; not a number where both are empty."""
        union = self.found + self.true - self.common
        return self.common / union if union else np.nan


@dataclass(frozen=True)
class Agreement:
    """Scores of one structure; not a number where the rule of empty masks leaves them out."""

    dice: float
    iou: float
    nsd: float  # share of border voxels of both masks within the tolerance of the other border
    hd95: float  # mm, the larger of the two 95th percentiles
    msd: float  # mm, the larger of the two mean distances


def agreement(
    found: Mask, true: Mask, spacing: Spacing, tolerance: float = 1.0, empty: EmptyRule = "counted"
) -> Agreement:
    """Scores of masks [D, H, W]; `tolerance` of NSD in mm."""
    counts = overlap(found, true)
    if not (counts.found and counts.true):
        return _of_empty(counts, boundary.diagonal(found.shape, spacing), empty)
    ways = boundary.distances(found, true, spacing)
    means = max(float(way.mean()) for way in ways)
    return Agreement(counts.dice, counts.iou, boundary.near(ways, tolerance), boundary.hausdorff(ways), means)


def left_out(scores: Agreement, counts: Overlap) -> Agreement:
    """The same scores under the rule `left_out`, for scores under the rule `counted`."""
    if counts.found and counts.true:
        return scores
    return _of_empty(counts, 0.0, "left_out")


def overlap(found: Mask, true: Mask) -> Overlap:
    """Voxels of masks [*spatial]."""
    return Overlap(*(int(np.count_nonzero(mask)) for mask in (found & true, found, true)))


def millilitres(voxels: int, spacing: Spacing) -> float:
    """Volume of so many voxels."""
    return voxels * float(np.prod(spacing)) / MILLILITRE


def mean(scores: list[Agreement]) -> dict[str, float | None]:
    """Each score averaged over structures, those without a value left out; None where none has one."""
    table = {name: np.array([asdict(one)[name] for one in scores]) for name in Agreement.__dataclass_fields__}
    return {name: _mean(values) for name, values in table.items()}


def _mean(values: NDArray[np.float64]) -> float | None:
    told = values[~np.isnan(values)]
    return float(told.mean()) if len(told) else None


def _of_empty(counts: Overlap, longest: float, empty: EmptyRule) -> Agreement:
    """Scores where at least one of the masks is empty."""
    if empty == "left_out":
        return Agreement(counts.dice, counts.iou, 0.0 if counts.found or counts.true else np.nan, np.nan, np.nan)
    if counts.found or counts.true:
        return Agreement(0.0, 0.0, 0.0, longest, longest)
    return Agreement(1.0, 1.0, 1.0, 0.0, 0.0)
