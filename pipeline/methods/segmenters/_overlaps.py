"""Losses of each sample [B] of logits [B, K, *spatial] against label maps [B, *spatial]; for weights per sample."""

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Mean over the pixels."""
    return F.cross_entropy(logits, mask, reduction="none").flatten(1).mean(1)


def focal(logits: Tensor, mask: Tensor, gamma: float = 2.0) -> Tensor:
    """Cross-entropy times (1 - p)^gamma, p that of the true class, mean over the pixels (Lin et al. 2017)."""
    entropy = F.cross_entropy(logits, mask, reduction="none")
    return ((-(-entropy).expm1()).clamp(min=0) ** gamma * entropy).flatten(1).mean(1)


def foreground_dice(logits: Tensor, mask: Tensor) -> Tensor:
    """1 - 2 sum(p m) / sum(p + m), mean over the foreground classes that the label map shows; 0 where it shows none.

    Not smoothed. The public ImgX code gives NaN for a sample without foreground.
    """
    chance = logits.softmax(1)[:, 1:].flatten(2)
    true = F.one_hot(mask, logits.shape[1]).movedim(-1, 1)[:, 1:].flatten(2).to(chance.dtype)
    present = true.any(2).to(chance.dtype)
    total = (chance + true).sum(2)
    lost = 1 - 2 * (chance * true).sum(2) / total.where(present > 0, 1.0)
    return (lost * present).sum(1) / present.sum(1).clamp(min=1)
