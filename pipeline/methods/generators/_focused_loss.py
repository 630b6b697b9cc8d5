"""Mean squared error that looks at lesions more than at the rest, after LeFusion (Zhang et al., ICLR 2025).

LeFusion averages the error inside the lesion over all pixels, so that small lesions weigh little; here every lesion
weighs the same, and a share of the plain error stays, without which nothing outside is learnt.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def focused_mse(predicted: Tensor, target: Tensor, masks: Tensor, weight: float) -> Tensor:
    """Return the mean over samples of (1 - weight) mean(e) + weight sum(h e) / sum(h), e the squared errors.

    `predicted` and `target` are [B, C, h, w], `masks` [B, H, W] label maps; h is 1 in the cells that a lesion touches.
    A sample without a lesion has the plain mean. At weight 0 the result is F.mse_loss.
    """
    if weight == 0:
        return F.mse_loss(predicted, target)
    errors = F.mse_loss(predicted, target, reduction="none").mean(1)
    factor = masks.shape[-1] // errors.shape[-1]
    lesions = F.max_pool2d((masks > 0).to(errors.dtype)[:, None], factor)[:, 0]
    plain, cells = errors.mean((1, 2)), lesions.sum((1, 2))
    inside = torch.where(cells > 0, (lesions * errors).sum((1, 2)) / cells.clamp(min=1), plain)
    return ((1 - weight) * plain + weight * inside).mean()
