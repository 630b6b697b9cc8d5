"""Edges of the training image by Canny (1986), OpenCV's, over the mask; thresholds as ControlNet's defaults."""

from functools import partial
from typing import Self

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from pipeline.core.contracts import Hint
from pipeline.methods.conditioning._lines import Lines, paint, require_images


class Params(Lines):
    """Thresholds of the gradient's magnitude, in grey levels."""

    low: int = Field(default=100, ge=0)
    high: int = Field(default=200, gt=0)

    @model_validator(mode="after")
    def low_is_below_high(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low {self.low} exceeds high {self.high}")
        return self


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
