"""Scores of a segmenter per volume: overlap, borders in millimetres, volumes in millilitres, each structure by itself.

Means over structures count empty masks (metrics.volumes); the columns `..._left_out` are the same means by the rule of
ImgX-DiffSeg, None where no structure has a value.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.data.sample import DatasetSpec
from pipeline.metrics.segmentation import overlap, volumes
from pipeline.metrics.segmentation.volumes import Agreement, Overlap

UNKNOWN = (1.0, 1.0, 1.0)  # mm; a set of volumes tells its own
SIZES = ("volume", "volume_found", "volume_error")  # ml: true, found, |found - true|
LEFT_OUT = tuple(f"{name}_left_out" for name in Agreement.__dataclass_fields__)


def volume_scores(
    found: NDArray[np.integer], true: NDArray[np.uint8], spec: DatasetSpec, tolerance: float
) -> dict[str, Any]:
    """Scores of label maps [D, H, W]; `tolerance` of NSD in mm. The swept scores are None.

    The volume of several structures together is that of all foreground, its error the mean over structures.
    """
    spacing, labels = spec.spacing or UNKNOWN, range(1, spec.num_classes)
    rows, strict = [], []
    for label in labels:
        pair = found == label, true == label
        counts, scores = volumes.overlap(*pair), volumes.agreement(*pair, spacing, tolerance)
        jaccard = float(overlap.thresholded(np.array(scores.iou)))
        rows.append(vars(scores) | {"jaccard_65": jaccard} | _sizes(counts, spacing))
        strict.append(volumes.left_out(scores, counts))
    means: dict[str, Any] = {"area": float((true > 0).mean()), "dice_swept": None, "iou_swept": None}
    means |= {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    means |= {name: sum(row[name] for row in rows) for name in ("volume", "volume_found")}
    means |= {f"{name}_left_out": value for name, value in volumes.mean(strict).items()}
    several = {f"{name}_{label}": row[name] for name in rows[0] for label, row in zip(labels, rows, strict=True)}
    return means | (several if spec.num_classes > 2 else {})


def _sizes(counts: Overlap, spacing: tuple[float, ...]) -> dict[str, float]:
    true, found = (volumes.millilitres(count, spacing) for count in (counts.true, counts.found))
    return dict(zip(SIZES, (true, found, abs(found - true)), strict=True))
