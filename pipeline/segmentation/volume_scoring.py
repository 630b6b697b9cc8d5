"""Scores of a segmenter per volume: overlap, borders in millimetres, volumes in millilitres, each structure by itself.

Means over structures count empty masks (metrics.segmentation.volumes); the columns `..._left_out` are the same means by
the rule of ImgX-DiffSeg, None where no structure has a value.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sample import DatasetSpec
from pipeline.metrics.segmentation import overlap, volumes
from pipeline.metrics.segmentation.volumes import OverlapCounts, StructureScores
from pipeline.segmentation.class_scores import class_columns, class_means

DEFAULT_SPACING = (1.0, 1.0, 1.0)  # mm; sets of volumes have their own
SIZES = ("volume", "volume_found", "volume_error")  # ml: true, predicted, |predicted - true|
LEFT_OUT = tuple(f"{name}_left_out" for name in StructureScores.__dataclass_fields__)


def volume_scores(
    predicted: NDArray[np.integer], true: NDArray[np.uint8], spec: DatasetSpec, tolerance: float
) -> dict[str, Any]:
    """Return the scores of label maps [D, H, W]; `tolerance` of NSD in mm. The swept scores are None.

    The volume of several structures together is that of all foreground, its error the mean over structures.
    """
    spacing = spec.spacing or DEFAULT_SPACING
    rows, left_out = [], []
    for label in range(1, spec.num_classes):
        pair = predicted == label, true == label
        counts, scores = volumes.count_overlap(*pair), volumes.structure_scores(*pair, spacing, tolerance)
        jaccard = float(overlap.thresholded_jaccard(np.array(scores.iou)))
        rows.append(vars(scores) | {"jaccard_65": jaccard} | _sizes(counts, spacing))
        left_out.append(volumes.leave_out_empty(scores, counts))
    means: dict[str, Any] = {"area": float((true > 0).mean()), "dice_swept": None, "iou_swept": None}
    means |= class_means(rows)
    means |= {name: sum(row[name] for row in rows) for name in ("volume", "volume_found")}
    means |= {f"{name}_left_out": value for name, value in volumes.nan_means(left_out).items()}
    return means | (class_columns(rows) if spec.num_classes > 2 else {})


def _sizes(counts: OverlapCounts, spacing: tuple[float, ...]) -> dict[str, float]:
    true, predicted = (volumes.millilitres(count, spacing) for count in (counts.true, counts.predicted))
    return dict(zip(SIZES, (true, predicted, abs(predicted - true)), strict=True))
