"""The mask with the outline of every class in another colour."""

from functools import partial

from torch import Tensor
from torch.nn import functional as F

from pipeline.core.contracts import Hint
from pipeline.methods.conditioning._lines import paint
from pipeline.methods.conditioning._lines_params import Lines
from pipeline.methods.conditioning._mask_boundary_params import Params


def build(params: Params, num_classes: int) -> Hint:
    """Return the hint; it needs no image."""
    return partial(_hint, params.width, num_classes)


def _hint(width: int, num_classes: int, masks: Tensor, images: Tensor | None = None) -> Tensor:
    return paint(masks, boundary(masks, width), num_classes, Lines())


def boundary(masks: Tensor, width: int) -> Tensor:
    """Return 1 on pixels of a lesion within `width` pixels of another label (also diagonally); the frame is not one."""
    labels, side = masks.float()[:, None], 2 * width + 1
    highest, lowest = F.max_pool2d(labels, side, 1, width), -F.max_pool2d(-labels, side, 1, width)
    mixed = (highest != labels) | (lowest != labels)
    return (mixed & (labels > 0)).float()[:, 0]
