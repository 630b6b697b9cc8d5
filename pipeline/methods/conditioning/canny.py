"""Edges of the training image by Canny (1986), OpenCV's, over the mask; thresholds as ControlNet's defaults."""

from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core.contracts import Hint
from pipeline.methods.conditioning._canny_params import Params
from pipeline.methods.conditioning._lines import paint, require_images


def build(params: Params, num_classes: int) -> Hint:
    """Return the hint; it needs the image."""
    return partial(_hint, params, num_classes)


def _hint(params: Params, num_classes: int, masks: Tensor, images: Tensor | None = None) -> Tensor:
    pixels = (require_images(images, "canny") * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    edge_maps = np.stack([edges(image, params.low, params.high) for image in pixels])
    return paint(masks, torch.from_numpy(edge_maps).to(masks.device), num_classes, params)


def edges(image: NDArray[np.uint8], low: int, high: int) -> NDArray[np.float32]:
    """Detect edges in colours [H, W, 3] uint8; return 1 on edges, else 0 [H, W]."""
    return (np.asarray(cv2.Canny(np.ascontiguousarray(image), low, high)) > 0).astype(np.float32)
