"""Learned variance of a reverse step, and the term of the variational bound that trains it (Nichol & Dhariwal 2021)."""

import math

import torch
from torch import Tensor

from pipeline.diffusion.process import Process

HALF_BIN = 1 / 255  # half the distance of two grey levels in [-1, 1]
SMALLEST = 1e-12  # probability under which logarithms are cut off


def learned_log_variance(process: Process, v: Tensor, k: Tensor) -> Tensor:
    """Interpolate the logarithms of the small variance (v = -1) and beta (v = 1) (eq. 15), at the cleanest too."""
    share, beta = (v + 1) / 2, process.betas.log().to(v.device, v.dtype)[k].view(-1, *[1] * (v.ndim - 1))
    return share * beta + (1 - share) * process.log_variance_small(k, v)


def bound_bits(process: Process, x0: Tensor, noisy: Tensor, mean: Tensor, log_variance: Tensor, k: Tensor) -> Tensor:
    """Return a term of the variational bound per sample [B], in bits per dimension, of a step N(mean, variance).

    The divergence from the true posterior; for the cleanest level the likelihood of x0 in bins of 8 bits.
    """
    true_mean, true_log = process.posterior_mean(x0, noisy, k), process.log_variance_small(k, x0)
    divergence = normal_divergence(true_mean, true_log, mean, log_variance)
    likelihood = binned_log_likelihood(x0, mean, log_variance)
    first = (k == 0).view(-1, *[1] * (x0.ndim - 1))
    return torch.where(first, -likelihood, divergence).flatten(1).mean(1) / math.log(2)


def normal_divergence(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log: Tensor) -> Tensor:
    """Return KL(N(mean, variance) || N(other)) of each number, in nats."""
    ratio = log_variance - other_log
    return 0.5 * (-1 - ratio + ratio.exp() + (mean - other_mean) ** 2 * (-other_log).exp())


def binned_log_likelihood(x: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log of the normal distribution's mass in the 8-bit bin around each x in [-1, 1]; end bins are open."""
    scale = (-log_variance / 2).exp()
    below = _mass((x - HALF_BIN - mean) * scale)
    above = _mass((x + HALF_BIN - mean) * scale)
    below, above = torch.where(x < -0.999, 0.0, below), torch.where(x > 0.999, 1.0, above)
    return (above - below).clamp(min=SMALLEST).log()


def _mass(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.erf(z / math.sqrt(2)))
