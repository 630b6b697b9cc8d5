"""The mask as a hint: each class in its own colour, background black."""

import colorsys

import torch
from torch import Tensor

from pipeline.core.contracts import Hint
from pipeline.core.device import to_device
from pipeline.methods.conditioning._mask_params import Params


def build(params: Params, num_classes: int) -> Hint:
    """Return the hint; it needs no image."""
    return lambda masks, images=None: hint(masks, num_classes)


def hint(masks: Tensor, num_classes: int) -> Tensor:
    """Colour label maps [B, H, W] as hints [B, 3, H, W] in [0, 1]; a binary mask is white on black, as in the paper."""
    return to_device(palette(num_classes), masks.device)[masks.long()].permute(0, 3, 1, 2).contiguous()


def palette(num_classes: int) -> Tensor:
    """Return the colours [K, 3]: black, then white for one class, or evenly spread hues for several."""
    if num_classes == 2:
        return torch.tensor([[0.0] * 3, [1.0] * 3])
    hues = [colorsys.hsv_to_rgb(k / (num_classes - 1), 1.0, 1.0) for k in range(num_classes - 1)]
    return torch.tensor([[0.0] * 3, *hues])
