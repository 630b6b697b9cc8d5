"""Scores of a segmenter per real image: overlap, borders, the polyp literature's sweep, thresholded Jaccard.

An image without foreground: Dice, IoU, NSD and the thresholded Jaccard are 1 and HD95 is 0 where nothing was found;
where something was, they are 0 and HD95 is the diagonal. The swept scores are 0 either way, as published. With several
foreground classes the same holds for each, and the scores of the image are the means over them. Volumes: see
volume_scoring. Where several raters drew masks these are the scores against what most of them say (protocol.METRICS),
and rater_scoring tells how the samples agree with all raters.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.core.contracts import Segmenter
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import unit
from pipeline.metrics.segmentation import boundary, overlap
from pipeline.metrics.segmentation.pooled import Counts
from pipeline.metrics.segmentation.swept import swept
from pipeline.segmentation.params import Segment
from pipeline.segmentation.rater_scoring import masks_of, rater_scores
from pipeline.segmentation.volume_scoring import volume_scores

Row = dict[str, Any]
Chances = NDArray[np.float32]


def score_set(segmenter: Segmenter, images: ImageSet, chosen: Segment) -> list[Row]:
    """One row per image: split, test_set (its source), image, area (share of foreground) and protocol.METRICS.

    Raises UserError where an image is synthetic: validation and test are real only.
    """
    if synthetic := [row["id"] for row in images if row["synthetic"]]:
        raise UserError(f"{images.folder}: {synthetic[0]} is synthetic ({len(synthetic)} are); scores need real images")
    return [
        {"split": row["split"], "test_set": row["source"], "image": row["id"]} | _scores(samples, images, row, chosen)
        for row, samples in zip(images, sample_set(segmenter, images, chosen), strict=True)
    ]


def sample_set(segmenter: Segmenter, images: ImageSet, chosen: Segment) -> Iterator[Chances]:
    """Probabilities [S, K, *spatial] of each image in the order of the rows; volumes are predicted one by one.

    S is segment.num_samples for a segmenter that draws (about["stochastic"]), else 1: all its samples are equal.
    """
    for image in batches(images, chosen.batch_size):
        if chosen.num_samples > 1 and segmenter.about.get("stochastic"):
            chances = segmenter.predict(image, chosen.num_samples)
        else:
            chances = segmenter.predict(image)
        yield from chances.float().cpu().numpy()


def batches(images: ImageSet, most: int) -> Iterator[torch.Tensor]:
    """Images [B, C, *spatial] in [0, 1] in the order of the rows, at most so many; of volumes one at a time."""
    size = 1 if images.spec.ndim == 3 else most
    for start in range(0, len(images), size):
        rows = images.rows[start : start + size]
        yield unit(torch.from_numpy(np.stack([images.image(row) for row in rows])))


def spread(images: ImageSet, count: int) -> ImageSet:
    """At most `count` of the images, evenly over all of them."""
    places = np.linspace(0, len(images) - 1, min(count, len(images))).round().astype(int)
    return images.select(images.rows[place] for place in places)


def resized(chance: Chances, shape: tuple[int, ...]) -> Chances:
    """Probabilities [K, H, W] at another size [H, W], bilinear between pixel centres."""
    if chance.shape[1:] == shape:
        return chance
    return F.interpolate(torch.from_numpy(chance)[None], size=shape, mode="bilinear", align_corners=False)[0].numpy()


def image_scores(
    chance: Chances, true: NDArray[np.uint8], tolerance: float = 0.01, spacing: tuple[float, float] = (1.0, 1.0)
) -> Row:
    """Scores of probabilities [K, H, W] against labels [H, W]; each foreground class too where there are several.

    A pixel belongs to the class with the highest probability: with two classes, where that of the foreground is above
    0.5. `tolerance` of NSD is a share of the diagonal. The swept scores are None with more than two classes.
    """
    found, several = chance.argmax(0), len(chance) > 2
    pair = overlap.foreground(found, len(chance)), overlap.foreground(true, len(chance))
    borders = [boundary.agreement(one, other, tolerance, spacing) for one, other in zip(*pair, strict=True)]
    iou = overlap.iou(*pair)
    classes = {
        "dice": overlap.dice(*pair),
        "iou": iou,
        "jaccard_65": overlap.thresholded(iou),
        "nsd": np.array([border.nsd for border in borders]),
        "hd95": np.array([border.hd95 for border in borders]),
    }
    scores = {"area": float((true > 0).mean())} | {name: float(values.mean()) for name, values in classes.items()}
    sweep = (None, None) if several else swept(chance[1], true > 0)
    each = {f"{name}_{label}": float(v) for name, values in classes.items() for label, v in enumerate(values, 1)}
    scores |= dict(zip(("dice_swept", "iou_swept"), sweep, strict=True)) | (each if several else {})
    return rounded(scores)


def pixel_scores(found: NDArray[np.integer], true: NDArray[np.uint8], num_classes: int) -> Row:
    """Sensitivity, specificity, accuracy of labels [*spatial], means over foreground classes; and each class's counts.

    The counts tp, fp, fn, tn carry the number of their class where there are several; protocol pools them.
    """
    counts = [Counts.of(found == label, true == label) for label in range(1, num_classes)]
    means = {name: float(np.mean([one.scores[name] for one in counts])) for name in ("se", "sp", "acc")}
    endings = [f"_{label}" for label in range(1, num_classes)] if num_classes > 2 else [""]
    each = {f"{name}{ending}": n for ending, one in zip(endings, counts, strict=True) for name, n in vars(one).items()}
    return rounded(means) | each


def region_sizes(true: NDArray[np.uint8], num_classes: int) -> Row:
    """Share of the image of each of several foreground classes; of one it is the column area."""
    if num_classes == 2:
        return {}
    return rounded({f"area_{label}": float((true == label).mean()) for label in range(1, num_classes)})


def rounded(scores: Row) -> Row:
    """Numbers as they stand in scores.csv."""
    return {name: None if value is None else round(value, 6) for name, value in scores.items()}


def _scores(samples: Chances, images: ImageSet, row: Row, chosen: Segment) -> Row:
    """Scores of one image [S, K, *spatial] at the resolution that is asked for."""
    true = images.native_mask(row) if chosen.resolution == "native" else images.mask(row)
    chance = samples[0] if len(samples) == 1 else samples.mean(0)
    if images.spec.ndim == 3:
        scores = rounded(volume_scores(chance.argmax(0), true, images.spec, chosen.nsd_tolerance_mm))
    else:
        chance = resized(chance, true.shape)
        scores = image_scores(chance, true, chosen.nsd_tolerance, chosen.spacing or (1.0, 1.0))
    if images.spec.raters > 1:
        scores |= rounded(rater_scores(masks_of(samples, chosen), images.masks(row), images.spec.num_classes, chosen))
    if chosen.pooled:
        scores |= pixel_scores(chance.argmax(0), true, images.spec.num_classes)
    return scores | (region_sizes(true, images.spec.num_classes) if chosen.region_size else {})
