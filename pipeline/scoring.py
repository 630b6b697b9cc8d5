"""Scores of a segmenter per real image: overlap, borders, the polyp literature's sweep, thresholded Jaccard.

An image without foreground: Dice, IoU, NSD and the thresholded Jaccard are 1 and HD95 is 0 where nothing was found;
where something was, they are 0 and HD95 is the diagonal. The swept scores are 0 either way, as published. With several
foreground classes the same holds for each, and the scores of the image are the means over them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from pipeline.contracts import Segmenter
from pipeline.data.image_set import ImageSet
from pipeline.errors import UserError
from pipeline.metrics import boundary, overlap
from pipeline.metrics.swept import swept
from pipeline.segment_params import Segment

Row = dict[str, Any]
Chances = NDArray[np.float32]
ISIC = 0.65  # a Jaccard index below it counts as a failure in the ISIC challenges


def score_set(segmenter: Segmenter, images: ImageSet, chosen: Segment) -> list[Row]:
    """One row per image: split, test_set (its source), image, area (share of foreground) and protocol.METRICS.

    Raises UserError where an image is synthetic: validation and test are real only.
    """
    if synthetic := [row["id"] for row in images if row["synthetic"]]:
        raise UserError(f"{images.folder}: {synthetic[0]} is synthetic ({len(synthetic)} are); scores need real images")
    chances = predict_set(segmenter, images, chosen.batch_size)
    return [
        {"split": row["split"], "test_set": row["source"], "image": row["id"]} | _scores(chance, images, row, chosen)
        for row, chance in zip(images, chances, strict=True)
    ]


def predict_set(segmenter: Segmenter, images: ImageSet, batch_size: int) -> Iterator[Chances]:
    """Mean probabilities [K, H, W] in the order of the rows."""
    for start in range(0, len(images), batch_size):
        rows = images.rows[start : start + batch_size]
        image = torch.from_numpy(np.stack([images.image(row) for row in rows])).float() / 255
        yield from segmenter.predict(image).mean(1).float().cpu().numpy()


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
        "jaccard_65": np.where(iou >= ISIC, iou, 0.0),
        "nsd": np.array([border.nsd for border in borders]),
        "hd95": np.array([border.hd95 for border in borders]),
    }
    scores = {"area": float((true > 0).mean())} | {name: float(values.mean()) for name, values in classes.items()}
    sweep = (None, None) if several else swept(chance[1], true > 0)
    each = {f"{name}_{label}": float(v) for name, values in classes.items() for label, v in enumerate(values, 1)}
    scores |= dict(zip(("dice_swept", "iou_swept"), sweep, strict=True)) | (each if several else {})
    return {name: None if value is None else round(value, 6) for name, value in scores.items()}


def _scores(chance: Chances, images: ImageSet, row: Row, chosen: Segment) -> Row:
    """Scores of one image at the resolution that is asked for."""
    true = images.native_mask(row) if chosen.resolution == "native" else images.mask(row)
    return image_scores(resized(chance, true.shape), true, chosen.nsd_tolerance, chosen.spacing or (1.0, 1.0))
