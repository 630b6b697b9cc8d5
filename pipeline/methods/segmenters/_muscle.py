"""What is done to predicted cross-sections of muscles in ultrasound (Marzola et al. 2021; Fu et al. 2023)."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

RIVAL = 0.75  # a second region of more than this share of the largest is taken where it lies nearer to the skin


def cleaned(chance: Tensor) -> Tensor:
    """Probabilities [B, S, 2, H, W]; where the cleaned mask differs from the predicted one they become 0 and 1."""
    found = chance[:, :, 1] > 0.5
    masks = [cross_section(mask) for mask in found.flatten(0, 1).cpu().numpy()]
    wanted = torch.from_numpy(np.stack(masks)).view(found.shape).to(chance.device)
    certain = torch.stack([~wanted, wanted], 2).to(chance.dtype)
    return torch.where((wanted == found)[:, :, None], chance, certain)


def cross_section(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Filled, worn by 5 x 5, grown by an octagon of 9, opened by one of 19, one region kept; the skin is at row 0."""
    worn = np.asarray(ndimage.binary_erosion(ndimage.binary_fill_holes(mask), np.ones((5, 5))), bool)
    mask = np.asarray(ndimage.binary_opening(ndimage.binary_dilation(worn, octagon(9)), octagon(19)), bool)
    labels = np.asarray(ndimage.label(mask)[0])  # type: ignore[index]
    if not labels.any():
        return mask
    sizes = np.bincount(labels.ravel())[1:]
    first, *others = np.argsort(-sizes, kind="stable") + 1
    if others and sizes[others[0] - 1] > RIVAL * sizes[first - 1]:
        first = min(first, others[0], key=lambda label: float(np.nonzero(labels == label)[0].mean()))
    return np.asarray(ndimage.binary_fill_holes(labels == first), bool)


def octagon(side: int) -> NDArray[np.bool_]:
    """The regular octagon of `side` pixels from edge to edge."""
    away = abs(np.arange(side) - side // 2)
    return away[:, None] + away[None] <= round(math.sqrt(2) * (side // 2))
