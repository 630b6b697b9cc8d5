"""Networks with one map per foreground class: conversion of their logits to K classes, and losses on such maps.

The published polyp networks give one logit z for "foreground". Here background has the logit 0, so that softmax over
(0, z) equals sigmoid(z); with K > 2 classes the network gives K - 1 maps and the same softmax decides between them.
Losses made for one map take each class against the rest, whose log-odds are z itself where K = 2.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.methods.segmenters import _kept_pixels


def with_background(maps: Tensor) -> Tensor:
    """Convert maps [B, K-1, H, W] of the foreground classes to logits [B, K, H, W], background 0."""
    return torch.cat([torch.zeros_like(maps[:, :1]), maps], 1)


def log_odds(logits: Tensor, first: int = 1) -> Tensor:
    """Return log p / (1 - p) of the classes from `first` on of logits [B, K, H, W] -> [B, K-first, H, W]."""
    odds = []
    for label in range(first, logits.shape[1]):
        rest = torch.cat([logits[:, :label], logits[:, label + 1 :]], 1)
        odds.append(logits[:, label] - rest.logsumexp(1))
    return torch.stack(odds, 1)


def targets(mask: Tensor, num_classes: int) -> Tensor:
    """Convert label maps [B, H, W] to one map of 0 and 1 per foreground class [B, K-1, H, W], float32."""
    return F.one_hot(mask, num_classes).movedim(-1, 1)[:, 1:].float()


def structure_loss(logits: Tensor, target: Tensor, weighted_bce: bool = True, kept: Tensor | None = None) -> Tensor:
    """Return weighted BCE + weighted IoU (Wei et al. 2020, as in PraNet), weighted up near the borders of the target.

    Logits and target (0 to 1, may be soft) have the shape [B, C, H, W]. The papers weight both parts. Their published
    code does not weight the BCE: it passes reduce="none", a true string, which makes a plain mean; weighted_bce=False.

    Only `kept` pixels [B, H, W] count (None: all); beyond them the target must be 0, as it is beyond the image's edge.
    """
    weight = 1 + 5 * (F.avg_pool2d(target, 31, stride=1, padding=15) - target).abs()
    bce, probability, dims = (
        F.binary_cross_entropy_with_logits(logits, target, reduction="none"),
        logits.sigmoid(),
        (2, 3),
    )
    if kept is None:
        entropy = (weight * bce).sum(dims) / weight.sum(dims) if weighted_bce else bce.mean()
    else:
        shown = _kept_pixels.as_shares(kept, bce)
        weight = weight * shown
        counted, over = (weight, dims) if weighted_bce else (shown, (0, 1, 2, 3))
        entropy = (counted * bce).sum(over) / counted.sum(over).clamp(min=1)
    common, total = (weight * probability * target).sum(dims), (weight * (probability + target)).sum(dims)
    return (entropy + 1 - (common + 1) / (total - common + 1)).mean()


def dice_per_image(logits: Tensor, target: Tensor, kept: Tensor | None = None) -> Tensor:
    """Return 1 - 2 sum(p m) / (sum(p) + sum(m) + 1) per map, averaged; the numerator is not smoothed (SANet).

    Sums are over the `kept` pixels [B, H, W]; None: over all. Beyond them the target must be 0.
    """
    probability, dims = logits.sigmoid(), (2, 3)
    if kept is not None:
        probability = probability * kept[:, None]
    overlap, total = (probability * target).sum(dims), (probability + target).sum(dims)
    return (1 - 2 * overlap / (total + 1)).mean()
