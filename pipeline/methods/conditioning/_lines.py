"""Lines over a mask: boundaries and edges painted in a colour that no class has."""

import torch
from torch import Tensor

from pipeline.core.errors import UserError
from pipeline.methods.conditioning import mask
from pipeline.methods.conditioning._lines_params import Lines


def paint(masks: Tensor, strength: Tensor, num_classes: int, lines: Lines) -> Tensor:
    """Paint lines [B, H, W] in [0, 1] over label maps; return hints [B, 3, H, W], lines blended into class colours."""
    strength = (strength * (masks > 0) if lines.inside else strength)[:, None]
    if not lines.over_mask:
        return strength.repeat(1, 3, 1, 1)
    colour = line_colour(num_classes).to(masks.device).view(1, 3, 1, 1)
    return (1 - strength) * mask.hint(masks, num_classes) + strength * colour


def line_colour(num_classes: int) -> Tensor:
    """Return red over the white of one class, white over the hues of several."""
    return torch.tensor([1.0, 0.0, 0.0] if num_classes == 2 else [1.0, 1.0, 1.0])


def require_images(images: Tensor | None, conditioning: str) -> Tensor:
    """Return the images. Raises UserError where there are none."""
    if images is None:
        raise UserError(
            f"conditioning {conditioning} shows the edges of the image that a mask belongs to, but this mask belongs"
            " to no training image; use masks: real for such a generator"
        )
    return images
