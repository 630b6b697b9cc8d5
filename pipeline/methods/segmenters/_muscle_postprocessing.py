"""Postprocessing of predicted cross-sections of muscles in ultrasound (Marzola et al. 2021; Fu et al. 2023)."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

VERSION = 2  # raised when postprocessed masks change, and with them the scores
RIVAL = 0.75  # a second region of more than this fraction of the largest wins where it lies nearer to the skin


def postprocess(probabilities: Tensor) -> Tensor:
    """Set probabilities [B, S, 2, H, W] to 0 and 1 where the postprocessed mask differs from the predicted one."""
    predicted = probabilities[:, :, 1] > 0.5
    masks = [cross_section(mask) for mask in predicted.flatten(0, 1).cpu().numpy()]
    processed = torch.from_numpy(np.stack(masks)).view(predicted.shape).to(probabilities.device)
    certain = torch.stack([~processed, processed], 2).to(probabilities.dtype)
    return torch.where((processed == predicted)[:, :, None], probabilities, certain)


def cross_section(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Fill holes, erode by 5 x 5, dilate by an octagon of 9, open by one of 19, keep one region; the skin is at row 0.

    Of MATLAB's strel('disk', r) of Marzola's code, r = 3, 5 and 10, these are the elements. As there, what lies beyond
    the border of the image takes no part, and regions that touch at corners are one.
    """
    eroded = _erode(np.asarray(ndimage.binary_fill_holes(mask), bool), np.ones((5, 5), bool))
    dilated = _dilate(eroded, octagon(9))
    mask = _dilate(_erode(dilated, octagon(19)), octagon(19))
    labels = np.asarray(ndimage.label(mask, np.ones((3, 3)))[0])  # type: ignore[index]
    if not labels.any():
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    first, *others = np.argsort(-sizes, kind="stable") + 1
    if others and sizes[others[0] - 1] > RIVAL * sizes[first - 1]:
        first = min(first, others[0], key=lambda label: float(np.nonzero(labels == label)[0].mean()))
    return np.asarray(ndimage.binary_fill_holes(labels == first), bool)


def octagon(side: int) -> NDArray[np.bool_]:
    """Return the octagon |dx| + |dy| <= 3/2 (side - 1) / 2, rounded up: 6 for 9 pixels from edge to edge, 14 for 19."""
    distance = abs(np.arange(side) - side // 2)
    return distance[:, None] + distance[None] <= (3 * (side // 2) + 1) // 2


def _erode(mask: NDArray[np.bool_], element: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_erosion(mask, element, border_value=1), bool)


def _dilate(mask: NDArray[np.bool_], element: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return np.asarray(ndimage.binary_dilation(mask, element), bool)
