"""Multi-scale training: one size for each optimiser step, the same on all processes."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from pipeline.core import seeding
from pipeline.core.contracts import Batch


def side(batch: Batch, rates: Sequence[float], chances: Sequence[float] | None = None, stride: int = 32) -> int:
    """Pixels of this step's square view: a rate of the batch's side, rounded to the stride, at least one stride.

    Drawn from the name of the step, which all samples of a global batch share; `chances` None: each rate equally often.
    """
    step = batch.streams[0].rpartition("/")[0]
    rate = float(seeding.numpy_rng(step, "scale").choice(rates, p=chances))
    return max(stride, round(batch.image.shape[-1] * rate / stride) * stride)


def resized(maps: Tensor, size: int, align_corners: bool) -> Tensor:
    """Maps [B, C, H, W] at [size, size], bilinear; untouched where they have that size."""
    if maps.shape[-2:] == (size, size):
        return maps
    return F.interpolate(maps, size=(size, size), mode="bilinear", align_corners=align_corners)
