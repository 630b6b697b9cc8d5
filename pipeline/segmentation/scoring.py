"""Scores of a segmenter per real image: overlap, borders, the polyp literature's sweep, thresholded Jaccard.

An image without foreground: Dice, IoU, NSD and the thresholded Jaccard are 1 and HD95 is 0 where nothing was predicted;
where something was, they are 0 and HD95 is the diagonal. The swept scores are 0 either way, as published. With several
foreground classes the same holds for each, and the scores of the image are the means over them. Volumes: see
volume_scoring. Where several raters drew masks these are the scores against their majority (protocol.METRICS), and
rater_scoring gives the agreement of the samples with all raters.
"""

import numpy as np
from numpy.typing import NDArray

from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.metrics.segmentation import boundary, overlap
from pipeline.metrics.segmentation.pooled import ConfusionCounts
from pipeline.metrics.segmentation.swept import swept_dice_iou
from pipeline.segmentation.class_scores import ScoreRow, class_columns, class_means, rounded
from pipeline.segmentation.params import Segment
from pipeline.segmentation.predicting import Probabilities, predict_set, resize_probabilities
from pipeline.segmentation.rater_scoring import rater_scores, sampled_labels
from pipeline.segmentation.volume_scoring import volume_scores


def score_set(segmenter: Segmenter, images: ImageSet, segment: Segment) -> list[ScoreRow]:
    """Return one row per image: split, test_set (its source), image, area (foreground fraction) and protocol.METRICS.

    Raises UserError where an image is synthetic: validation and test are real only.
    """
    if synthetic := [row["id"] for row in images if row["synthetic"]]:
        raise UserError(f"{images.folder}: {synthetic[0]} is synthetic ({len(synthetic)} are); scores need real images")
    return [
        {"split": row["split"], "test_set": row["source"], "image": row["id"]} | _scores(samples, images, row, segment)
        for row, samples in zip(images, predict_set(segmenter, images, segment), strict=True)
    ]


def image_scores(
    probabilities: Probabilities,
    true: NDArray[np.uint8],
    tolerance: float = 0.01,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> ScoreRow:
    """Return the scores of probabilities [K, H, W] against labels [H, W]; those of each class too where K > 2.

    A pixel belongs to the class with the highest probability: with two classes, where that of the foreground is above
    0.5. `tolerance` of NSD is a fraction of the diagonal. The swept scores are None with more than two classes.
    """
    num_classes = len(probabilities)
    pair = tuple(overlap.foreground_masks(labels, num_classes) for labels in (probabilities.argmax(0), true))
    borders = [boundary.border_scores(one, other, tolerance, spacing) for one, other in zip(*pair, strict=True)]
    iou = overlap.iou(*pair)
    columns = {
        "dice": overlap.dice(*pair),
        "iou": iou,
        "jaccard_65": overlap.thresholded_jaccard(iou),
        "nsd": [border.nsd for border in borders],
        "hd95": [border.hd95 for border in borders],
    }
    rows = [dict(zip(columns, map(float, values), strict=True)) for values in zip(*columns.values(), strict=True)]
    sweep = (None, None) if num_classes > 2 else swept_dice_iou(probabilities[1], true > 0)
    scores: ScoreRow = {"area": float((true > 0).mean())} | class_means(rows)
    scores |= dict(zip(("dice_swept", "iou_swept"), sweep, strict=True))
    return rounded(scores | (class_columns(rows) if num_classes > 2 else {}))


def pixel_scores(predicted: NDArray[np.integer], true: NDArray[np.uint8], num_classes: int) -> ScoreRow:
    """Return sensitivity, specificity and accuracy of labels [*spatial], means over foreground classes, and counts.

    The counts tp, fp, fn, tn carry the number of their class where there are several; protocol pools them.
    """
    counts = [ConfusionCounts.of(predicted == label, true == label) for label in range(1, num_classes)]
    means = class_means([{name: one.scores[name] for name in ("se", "sp", "acc")} for one in counts])
    suffixes = [f"_{label}" for label in range(1, num_classes)] if num_classes > 2 else [""]
    each = {f"{name}{suffix}": n for suffix, one in zip(suffixes, counts, strict=True) for name, n in vars(one).items()}
    return rounded(means) | each


def region_sizes(true: NDArray[np.uint8], num_classes: int) -> ScoreRow:
    """Return the fraction of the image of each of several foreground classes; for one it is the column area."""
    if num_classes == 2:
        return {}
    return rounded({f"area_{label}": float((true == label).mean()) for label in range(1, num_classes)})


def _scores(samples: Probabilities, images: ImageSet, row: ScoreRow, segment: Segment) -> ScoreRow:
    """Return the scores of one image [S, K, *spatial] at the resolution of segment.resolution."""
    true = images.native_mask(row) if segment.resolution == "native" else images.mask(row)
    num_classes = images.spec.num_classes
    probabilities = samples[0] if len(samples) == 1 else samples.mean(0)
    if images.spec.ndim == 3:
        scores = rounded(volume_scores(probabilities.argmax(0), true, images.spec, segment.nsd_tolerance_mm))
    else:
        probabilities = resize_probabilities(probabilities, true.shape)
        scores = image_scores(probabilities, true, segment.nsd_tolerance, segment.spacing or (1.0, 1.0))
    if images.spec.raters > 1:
        labels = sampled_labels(samples, segment)
        scores |= rounded(rater_scores(labels, images.masks(row), num_classes, segment))
    if segment.pooled:
        scores |= pixel_scores(probabilities.argmax(0), true, num_classes)
    return scores | (region_sizes(true, num_classes) if segment.region_size else {})
