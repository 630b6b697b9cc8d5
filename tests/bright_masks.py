"""A batch of grey images whose masks are their bright pixels."""

from torch import Tensor

from pipeline.core.contracts import Batch


def with_bright_masks(image: Tensor) -> Batch:
    """The images [B, 1, H, W] in [0, 1] with the masks of what is above one half."""
    count = len(image)
    return Batch(image, (image[:, 0] > 0.5).long(), ("",) * count, tuple(f"s/{n}" for n in range(count)))
