"""Losses per sample [B] of logits [B, K, *spatial] against label maps [B, *spatial], for weighting samples.

They count the pixels of `kept` [B, *spatial]; None: all.
"""

import torch.nn.functional as F
from torch import Tensor

from pipeline.methods.segmenters import _kept_pixels


def cross_entropy(logits: Tensor, mask: Tensor, kept: Tensor | None = None) -> Tensor:
    """Return the cross-entropy, mean over the pixels."""
    return _kept_pixels.per_sample(F.cross_entropy(logits, mask, reduction="none"), kept)


def focal(logits: Tensor, mask: Tensor, kept: Tensor | None = None, gamma: float = 2.0) -> Tensor:
    """Return cross-entropy times (1 - p)^gamma with p of the true class, mean over the pixels (Lin et al. 2017)."""
    entropy = F.cross_entropy(logits, mask, reduction="none")
    return _kept_pixels.per_sample((-(-entropy).expm1()).clamp(min=0) ** gamma * entropy, kept)


def foreground_dice(logits: Tensor, mask: Tensor, kept: Tensor | None = None) -> Tensor:
    """Return 1 - 2 sum(p m) / sum(p + m), mean over the foreground classes in the label map; 0 where there is none.

    Not smoothed. The public ImgX code gives NaN for a sample without foreground.
    """
    probability = logits.softmax(1)[:, 1:].flatten(2)
    true = F.one_hot(mask, logits.shape[1]).movedim(-1, 1)[:, 1:].flatten(2).to(probability.dtype)
    if kept is not None:
        probability, true = probability * kept.flatten(1)[:, None], true * kept.flatten(1)[:, None]
    present = true.any(2).to(probability.dtype)
    total = (probability + true).sum(2)
    loss = 1 - 2 * (probability * true).sum(2) / total.where(present > 0, 1.0)
    return (loss * present).sum(1) / present.sum(1).clamp(min=1)
