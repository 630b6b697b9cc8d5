"""Slow, literal versions of the polyp networks' tricky parts: loops over pixels, nodes and anchors."""

import math

import torch
from torch import Tensor


def structure_loss(logits: Tensor, target: Tensor, weighted_bce: bool) -> float:
    """PraNet's loss of logits [B, H, W] and targets of 0 and 1, pixel by pixel."""
    batch, height, width = logits.shape
    losses = []
    for b in range(batch):
        bce_sum = weight_sum = shared = total = plain = 0.0
        for i in range(height):
            for j in range(width):
                window = target[b, max(0, i - 15) : i + 16, max(0, j - 15) : j + 16]
                m, z = float(target[b, i, j]), float(logits[b, i, j])
                w = 1 + 5 * abs(float(window.sum()) / 31**2 - m)
                p = 1 / (1 + math.exp(-z))
                bce = -(m * math.log(p) + (1 - m) * math.log(1 - p))
                plain += bce / (height * width)
                bce_sum, weight_sum = bce_sum + w * bce, weight_sum + w
                shared, total = shared + w * p * m, total + w * (p + m)
        losses.append((bce_sum / weight_sum, plain, 1 - (shared + 1) / (total - shared + 1)))
    entropy = [first if weighted_bce else second for first, second, _ in losses]
    return sum(e + iou for e, (_, _, iou) in zip(entropy, losses, strict=True)) / batch


def info_nce(rows: Tensor, labels: list[int]) -> float:
    """Mean over anchors of the mean over positives of -log e^s / (e^s + sum over negatives e^s), times 0.1 / 0.07."""
    count, anchors = len(rows), []
    for i in range(count):
        negatives = sum(math.exp(float(rows[i] @ rows[k]) / 0.1) for k in range(count) if labels[k] != labels[i])
        terms = []
        for j in range(count):
            if j != i and labels[j] == labels[i]:
                positive = math.exp(float(rows[i] @ rows[j]) / 0.1)
                terms.append(-math.log(positive / (positive + negatives)))
        anchors.append(sum(terms) / len(terms))
    return 0.1 / 0.07 * sum(anchors) / count


def similarity(module: torch.nn.Module, fused: Tensor, edge: Tensor) -> Tensor:
    """Polyp-PVT's aggregation of one image [32, h, w] under an edge map [h, w], node by node and pixel by pixel."""
    state, project = (layer(fused[None])[0] for layer in (module.state, module.project))
    channels, height, width = state.shape
    pooled = torch.nn.functional.adaptive_avg_pool2d(project * edge, (6, 6))
    anchors = [pooled[:, 1 + n // 4, 1 + n % 4] for n in range(16)]
    pixels = [(i, j) for i in range(height) for j in range(width)]
    share = {}
    for i, j in pixels:
        scores = [float(anchor @ project[:, i, j]) for anchor in anchors]
        top = sum(math.exp(score) for score in scores)
        share[i, j] = [math.exp(score) / top for score in scores]
    nodes = [sum(state[:, i, j] * share[i, j][n] for i, j in pixels) for n in range(16)]
    mixing, shift = module.across_nodes.weight[:, :, 0], module.across_nodes.bias
    mixed = [sum(mixing[n, k] * nodes[k] for k in range(16)) + shift[n] - nodes[n] for n in range(16)]
    turned = [(module.across_channels.weight[:, :, 0] @ node).relu() for node in mixed]
    back = state.new_zeros(channels, height, width)
    for i, j in pixels:
        back[:, i, j] = sum(share[i, j][n] * turned[n] for n in range(16))
    return fused + module.back(back[None])[0]
