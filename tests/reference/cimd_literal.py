"""The terms of CIMD's loss, one pixel at a time in plain floats: slow, and near to the formulas."""

import math
from collections.abc import Sequence


def kept(betas: Sequence[float], t: int) -> float:
    """abar_t; 1 before the first step."""
    return math.prod(1 - beta for beta in betas[: t + 1])


def posterior(betas: Sequence[float], t: int, x0: float, noisy: float) -> tuple[float, float]:
    """Mean and variance of q(x_(t-1) | x_t, x_0); at t = 0 the variance is that of t = 1."""
    before, now, beta = kept(betas, t - 1), kept(betas, t), betas[t]
    mean = math.sqrt(before) * beta / (1 - now) * x0 + math.sqrt(1 - beta) * (1 - before) / (1 - now) * noisy
    return mean, beta * (1 - before) / (1 - now) if t else posterior(betas, 1, x0, noisy)[1]


def implied_x0(betas: Sequence[float], t: int, prediction: str, predicted: float, noisy: float) -> float:
    """The clean value that a predicted noise, velocity or clean value stands for."""
    signal, sigma = math.sqrt(kept(betas, t)), math.sqrt(1 - kept(betas, t))
    if prediction == "eps":
        return (noisy - sigma * predicted) / signal
    return signal * noisy - sigma * predicted if prediction == "v" else predicted


def bits(betas: Sequence[float], t: int, x0: float, noisy: float, clean: float, v: float) -> float:
    """One pixel's term of the bound: the divergence of two normals or, at t = 0, the surprise of an 8-bit bin."""
    true_mean, true_variance = posterior(betas, t, x0, noisy)
    mean = posterior(betas, t, clean, noisy)[0]
    share = (v + 1) / 2
    variance = math.exp(share * math.log(betas[t]) + (1 - share) * math.log(true_variance))
    if t:
        gap = (true_mean - mean) ** 2
        return (math.log(variance / true_variance) / 2 + (true_variance + gap) / (2 * variance) - 0.5) / math.log(2)
    return -math.log(max(_bin(x0, mean, math.sqrt(variance)), 1e-12)) / math.log(2)


def gaussian_divergence(first: Sequence[tuple[float, float]], second: Sequence[tuple[float, float]]) -> float:
    """KL of independent normals, given as (mean, logarithm of sigma) of each dimension, in nats."""
    return sum(
        other_log - log + (math.exp(2 * log) + (mean - other_mean) ** 2) / (2 * math.exp(2 * other_log)) - 0.5
        for (mean, log), (other_mean, other_log) in zip(first, second, strict=True)
    )


def _bin(x: float, mean: float, sigma: float) -> float:
    """Mass of the bin of width 2 / 255 around x; the bins at -1 and 1 reach to infinity."""
    above = 1.0 if x > 0.999 else _below((x + 1 / 255 - mean) / sigma)
    below = 0.0 if x < -0.999 else _below((x - 1 / 255 - mean) / sigma)
    return above - below


def _below(z: float) -> float:
    return (1 + math.erf(z / math.sqrt(2))) / 2
