"""DP-SGD's sum of clipped gradients (Abadi et al. 2016, algorithm 1), one sample after the other."""

from typing import Any

import torch
from torch import Tensor, nn


def literal_sum(
    objective: nn.Module, batch: Any, progress: float, limit: float
) -> tuple[list[float], dict[str, Tensor]]:
    """Return the norms of the gradients of all samples, and the sum of g / max(1, |g| / limit) by weight.

    With a limit of 0 the sum is that of the gradients as they are.
    """
    trained = {name: weight for name, weight in objective.named_parameters() if weight.requires_grad}
    sums = {name: torch.zeros_like(weight) for name, weight in trained.items()}
    norms = []
    for number in range(len(batch)):
        losses = objective(batch.part(number, number + 1), progress)
        gradients = torch.autograd.grad(sum(losses.values(), torch.zeros(())), list(trained.values()))
        norm = float(torch.cat([gradient.flatten() for gradient in gradients]).norm())
        norms.append(norm)
        for name, gradient in zip(trained, gradients, strict=True):
            sums[name] += gradient / max(1.0, norm / limit) if limit else gradient
    return norms, sums
