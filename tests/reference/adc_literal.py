"""The step of Adaptively Distilled ControlNet, written out: whole networks for each branch, one sample after the other.

Student and teacher have a U-Net each, whose encoder runs on its own; nothing is shared. With epsilon-prediction.
"""

from typing import Any

import torch
from torch import Tensor

from tests.reference.siamese_literal import predict, residuals


def step(
    student: tuple[Any, Any], teacher: tuple[Any, Any], alphas: Tensor, z0: Tensor, eps: Tensor, t: Tensor,
    text: Tensor, mask: Tensor, image: Tensor, labels: Tensor, w_i: float = 1.0,
) -> dict[str, Tensor]:  # fmt: skip
    """The three losses of one batch; `student` and `teacher` are pairs of U-Net and ControlNet."""
    abar = alphas[t].view(-1, 1, 1, 1)
    zt = abar.sqrt() * z0 + (1 - abar).sqrt() * eps
    c_m = residuals(student[1], zt, t, text, mask)
    c_i = residuals(teacher[1], zt, t, text, image)
    e_s = predict(student[0], zt, t, text, c_m)
    e_t = predict(teacher[0], zt, t, text, [m + w_i * i for m, i in zip(c_m, c_i, strict=True)])
    distances = [distance(*one) for one in zip(e_s, e_t.detach(), labels, strict=True)]
    return {
        "mask": ((e_s - eps) ** 2).mean(),
        "mask_image": ((e_t - eps) ** 2).mean(),
        "distillation": torch.stack(distances).mean(),
    }


def distance(e_s: Tensor, e_t: Tensor, labels: Tensor) -> Tensor:
    """The weighted distance of one sample, cell by cell; a cell has the label of its first pixel."""
    channels, height, width = e_s.shape
    factor = labels.shape[-1] // width
    lesion = [[bool(labels[factor * y, factor * x] > 0) for x in range(width)] for y in range(height)]
    r = sum(map(sum, lesion)) / (height * width)
    total = e_s.new_zeros(())
    for y in range(height):
        for x in range(width):
            weight = 1 - r if lesion[y][x] else r
            total = total + weight * ((e_s[:, y, x] - e_t[:, y, x]) ** 2).sum()
    return total / (channels * height * width)
