"""Scores of one structure in a volume: overlap, borders in millimetres, volume.

Two conventions for empty masks. `counted` (this package's): predicting nothing where there is nothing is perfect (Dice,
IoU and NSD 1, distances 0) and predicting something fails (0, and the volume's diagonal), so every mean is over all
cases. `left_out` (ImgX-DiffSeg's, with MONAI's NSD): two empty masks have no score at all, and no distance goes from or
to an empty mask; missing values drop out of means, so that a missed structure costs no distance.
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
class OverlapCounts:
    """Voxels of two masks and of their intersection."""

    common: int
    predicted: int
    true: int

    @property
    def dice(self) -> float:
        """2|P and T| / (|P| + |T|); NaN where both are empty."""
        total = self.predicted + self.true
        return 2 * self.common / total if total else np.nan

    @property
    def iou(self) -> float:
        """|P and T| / |P or T|; NaN where both are empty."""
        union = self.predicted + self.true - self.common
        return self.common / union if union else np.nan


@dataclass(frozen=True)
class StructureScores:
    """Scores of one structure; NaN where the rule for empty masks leaves them out."""

    dice: float
    iou: float
    nsd: float  # fraction of border voxels of both masks within the tolerance of the other border
    hd95: float  # mm, the larger of the two 95th percentiles
    msd: float  # mm, the larger of the two mean distances


def structure_scores(
    predicted: Mask, true: Mask, spacing: Spacing, tolerance: float = 1.0, empty: EmptyRule = "counted"
) -> StructureScores:
    """Return the scores of masks [D, H, W]; `tolerance` of NSD in mm."""
    counts = count_overlap(predicted, true)
    if not (counts.predicted and counts.true):
        return _scores_of_empty(counts, boundary.diagonal(predicted.shape, spacing), empty)
    both_ways = boundary.border_distances(predicted, true, spacing)
    msd = max(float(way.mean()) for way in both_ways)
    nsd, hd95 = boundary.surface_dice(both_ways, tolerance), boundary.hausdorff(both_ways)
    return StructureScores(counts.dice, counts.iou, nsd, hd95, msd)


def leave_out_empty(scores: StructureScores, counts: OverlapCounts) -> StructureScores:
    """Convert scores under the rule `counted` to the rule `left_out`."""
    if counts.predicted and counts.true:
        return scores
    return _scores_of_empty(counts, 0.0, "left_out")


def count_overlap(predicted: Mask, true: Mask) -> OverlapCounts:
    """Count the voxels of masks [*spatial]."""
    return OverlapCounts(*(int(np.count_nonzero(mask)) for mask in (predicted & true, predicted, true)))


def millilitres(voxels: int, spacing: Spacing) -> float:
    """Return the volume of so many voxels."""
    return voxels * float(np.prod(spacing)) / MILLILITRE


def nan_means(scores: list[StructureScores]) -> dict[str, float | None]:
    """Average each score over structures, ignoring NaN; None where all are NaN."""
    table = {name: np.array([asdict(one)[name] for one in scores]) for name in StructureScores.__dataclass_fields__}
    return {name: _nan_mean(values) for name, values in table.items()}


def _nan_mean(values: NDArray[np.float64]) -> float | None:
    valid = values[~np.isnan(values)]
    return float(valid.mean()) if len(valid) else None


def _scores_of_empty(counts: OverlapCounts, longest: float, empty: EmptyRule) -> StructureScores:
    """Return the scores where at least one of the masks is empty."""
    any_voxel = counts.predicted or counts.true
    if empty == "left_out":
        return StructureScores(counts.dice, counts.iou, 0.0 if any_voxel else np.nan, np.nan, np.nan)
    if any_voxel:
        return StructureScores(0.0, 0.0, 0.0, longest, longest)
    return StructureScores(1.0, 1.0, 1.0, 0.0, 0.0)
