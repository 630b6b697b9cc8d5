"""The loss of the Probabilistic U-Net (Kohl et al. 2018, Eq. 4), one pixel and dimension at a time in plain floats."""

import math
from collections.abc import Sequence

Gaussian = Sequence[tuple[float, float]]  # mean and sigma of each dimension


def surprise(logits: Sequence[float], label: int) -> float:
    """-log of the probability of a pixel's label."""
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[label]


def divergence(posterior: Gaussian, prior: Gaussian) -> float:
    """KL(posterior || prior) of independent normals, in nats."""
    total = 0.0
    for (mean, sigma), (other_mean, other_sigma) in zip(posterior, prior, strict=True):
        total += math.log(other_sigma / sigma) - 0.5
        total += (sigma**2 + (mean - other_mean) ** 2) / (2 * other_sigma**2)
    return total


def point(gaussian: Gaussian, noise: Sequence[float]) -> list[float]:
    """The point that a normal draw of each dimension stands for."""
    return [mean + sigma * value for (mean, sigma), value in zip(gaussian, noise, strict=True)]


def joined(
    features: Sequence[float], z: Sequence[float], layers: Sequence[tuple[list[list[float]], list[float]]]
) -> list[float]:
    """Logits of a pixel: features and z through 1 x 1 convolutions (weight [out][in], bias), ReLU between them."""
    x = [*features, *z]
    for number, (weight, bias) in enumerate(layers):
        x = [sum(w * value for w, value in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]
        if number < len(layers) - 1:
            x = [max(value, 0.0) for value in x]
    return x


def loss(
    logits: Sequence[Sequence[Sequence[float]]],
    labels: Sequence[Sequence[int]],
    posteriors: Sequence[Gaussian],
    priors: Sequence[Gaussian],
    beta: float,
) -> float:
    """The mean over images of the pixels' surprises, summed, + beta x divergence, per pixel; logits [B][pixels][K]."""
    total = 0.0
    for maps, label, posterior, prior in zip(logits, labels, posteriors, priors, strict=True):
        total += sum(surprise(pixel, true) for pixel, true in zip(maps, label, strict=True))
        total += beta * divergence(posterior, prior)
    return total / len(labels) / len(labels[0])
