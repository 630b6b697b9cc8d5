"""Multi-scale training: one size for each optimiser step, the same on all processes."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from pipeline.core import seeding
from pipeline.core.contracts import Batch


def sample_side(
    batch: Batch, rates: Sequence[float], probabilities: Sequence[float] | None = None, stride: int = 32
) -> int:
    """Draw the side of this step's square images in pixels: a rate times the batch's side, rounded to the stride.

    Never below one stride. Drawn from the name of the step, which all samples of a global batch share; without
    `probabilities` each rate is equally likely.
    """
    step = batch.streams[0].rpartition("/")[0]
    rate = float(seeding.numpy_rng(step, "scale").choice(rates, p=probabilities))
    return max(stride, round(batch.image.shape[-1] * rate / stride) * stride)


def resize_maps(maps: Tensor, size: int, align_corners: bool) -> Tensor:
    """Resize maps [B, C, H, W] to [size, size] bilinearly; unchanged where they have that size."""
    if maps.shape[-2:] == (size, size):
        return maps
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=align_corners)
