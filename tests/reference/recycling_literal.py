"""A training step and the sampling of recycling diffusion as the papers tell them: sample by sample, written out."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]


def levels(steps: int = 1001) -> list[float]:
    """abar of a linear schedule, one product after another."""
    product, found = 1.0, []
    for step in range(steps):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * step / (steps - 1))
        found.append(product)
    return found


def loss(
    network: Any, mode: str, eps: bool, image: Tensor, mask: Tensor, classes: int,
    t: list[int], noise: Tensor, first_noise: Tensor, kept: list[bool], weights: dict[str, float],
) -> tuple[Tensor, Any]:  # fmt: skip
    """The loss of a batch in float64, and the copy of the network that made the first pass."""
    abar, first_pass, total = levels(), copy.deepcopy(network), torch.zeros((), dtype=torch.float64)
    for b in range(len(image)):
        x0 = torch.stack([2.0 * (mask[b] == c).double() - 1 for c in range(classes)])
        nothing = torch.zeros_like(x0) if mode.startswith("selfcond") else None
        x_t, target, seen = noised(x0, abar[t[b]], noise[b]), noise[b], nothing
        if mode != "vanilla":
            later = {"recycle_T": len(abar) - 1, "selfcond_same": t[b]}.get(mode, min(t[b] + 1, len(abar) - 1))
            x_re = x_t if mode == "selfcond_same" else noised(x0, abar[later], first_noise[b])
            with torch.no_grad():
                x0_th = found(first_pass, eps, image[b], x_re, abar, later, nothing)[1]
            if mode.startswith("recycle"):
                x_t = noised(x0_th, abar[t[b]], noise[b])
            if mode == "selfcond_next":
                x_t = posterior_mean(x0_th, x_re, abar[later], abar[later - 1])
                target = (x_t - math.sqrt(abar[t[b]]) * x0_th) / math.sqrt(1 - abar[t[b]])
            if nothing is not None and kept[b]:
                seen = (x0_th.clamp(-1, 1) + 1) / 2
        logits, _, output = found(network, eps, image[b], x_t, abar, t[b], seen)
        total = total + label_loss(logits, mask[b], weights)
        if eps:
            total = total + weights["noise"] * ((output - target) ** 2).mean()
    return total / len(image), first_pass


def noised(x0: Tensor, abar: float, noise: Tensor) -> Tensor:
    return math.sqrt(abar) * x0 + math.sqrt(1 - abar) * noise


def posterior_mean(x0: Tensor, x: Tensor, abar: float, before: float) -> Tensor:
    """Of q(x_(t-1) | x_t, x_0)."""
    alpha = abar / before
    return ((1 - alpha) * math.sqrt(before) * x0 + math.sqrt(alpha) * (1 - before) * x) / (1 - abar)


def found(
    network: Network, eps: bool, image: Tensor, x: Tensor, abar: list[float], t: int, seen: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, mask in [-1, 1] and output of one pass over one sample."""
    parts = [image, (x.clamp(-1, 1) + 1) / 2] + ([] if seen is None else [seen])
    output = network(torch.cat(parts)[None], torch.tensor([(t + 1) / len(abar)]))[0]
    if not eps:
        chance = output.exp() / output.exp().sum(0)
        return output, 2 * chance - 1, output
    x0 = (x - math.sqrt(1 - abar[t]) * output) / math.sqrt(abar[t])
    return ((x0 + 1) / 2).clamp(1e-5, 1).log(), x0, output


def label_loss(logits: Tensor, mask: Tensor, weights: dict[str, float]) -> Tensor:
    """Cross-entropy, focal loss and Dice loss of one sample, pixel by pixel and class by class."""
    chance = logits.exp() / logits.exp().sum(0)
    entropy, focal, pixels = torch.zeros(()), torch.zeros(()), mask.numel()
    for place in torch.cartesian_prod(*(torch.arange(side) for side in mask.shape)):
        p = chance[(int(mask[tuple(place)]), *place)]
        entropy, focal = entropy - p.log() / pixels, focal - (1 - p) ** 2 * p.log() / pixels
    dices = []
    for c in range(1, len(logits)):
        true = (mask == c).double()
        if true.sum() > 0:
            dices.append(1 - 2 * (chance[c] * true).sum() / (chance[c] + true).sum())
    dice = sum(dices) / len(dices) if dices else torch.zeros(())
    return weights["cross_entropy"] * entropy + weights["focal"] * focal + weights["dice"] * dice


def sampled(
    network: Network, eps: bool, ddim: bool, image: Tensor, noise: list[Tensor], kept: list[int]
) -> list[Tensor]:
    """Probabilities of one sample after each step over the timesteps `kept`; noise of the start and of every step."""
    abar, x, results = levels(), noise[0], []
    for number, place in enumerate(reversed(range(len(kept)))):
        now, before = abar[kept[place]], abar[kept[place - 1]] if place else 1.0
        logits, x0, _ = found(network, eps, image, x, abar, kept[place], None)
        results.append(logits.exp() / logits.exp().sum(0))
        if not place:
            continue
        if ddim:
            direction = (x / math.sqrt(now) - x0) / math.sqrt(1 / now - 1)
            x = math.sqrt(before) * x0 + math.sqrt(1 - before) * direction
        else:
            variance = (1 - before) / (1 - now) * (1 - now / before)
            x = posterior_mean(x0, x, now, before) + math.sqrt(variance) * noise[number + 1]
    return results
