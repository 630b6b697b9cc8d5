"""Images on their way through PIL, whose resizing is part of the definition of several extractors."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def prepared(images: Tensor, prepare: Callable[[Image.Image], Tensor]) -> Tensor:
    """[B, 3, H, W] uint8 -> what `prepare` makes of each picture, stacked, on the device of the images."""
    pixels = np.ascontiguousarray(images.permute(0, 2, 3, 1).cpu().numpy())
    return torch.stack([prepare(Image.fromarray(picture)) for picture in pixels]).to(images.device)
