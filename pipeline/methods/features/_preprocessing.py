"""Preprocessing by PIL, whose resizing is part of the definition of several extractors."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def preprocess(images: Tensor, transform: Callable[[Image.Image], Tensor]) -> Tensor:
    """Apply `transform` to each image of [B, 3, H, W] uint8 and stack the results on the device of the images."""
    pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())
    return torch.stack([transform(Image.fromarray(picture)) for picture in pixels]).to(images.device)
