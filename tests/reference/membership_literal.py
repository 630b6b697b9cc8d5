"""Membership scores as their papers write them: one image, one noise, one timestep at a time; and Hanley and McNeil."""

import math
from collections.abc import Callable

from torch import Tensor

Network = Callable[[Tensor, int], Tensor]  # one noisy sample [C, h, w] and a timestep of the schedule
Abar = list[float]


def noise_seen(network: Network, abar: Abar, kind: str, z: Tensor, t: int) -> Tensor:
    """eps^ of one sample, whatever the network predicts."""
    output, signal, sigma = network(z, t), math.sqrt(abar[t]), math.sqrt(1 - abar[t])
    if kind == "sample":
        return (z - signal * output) / sigma
    if kind == "v_prediction":
        return signal * output + sigma * z
    return output


def loss(network: Network, abar: Abar, kind: str, z0: Tensor, noises: Tensor, timesteps: list[int]) -> float:
    errors = []
    for t in timesteps:
        for eps in noises:
            zt = math.sqrt(abar[t]) * z0 + math.sqrt(1 - abar[t]) * eps
            difference = eps - noise_seen(network, abar, kind, zt, t)
            errors.append(sum(d**2 for d in difference.flatten().tolist()) / z0.numel())
    return -sum(errors) / len(errors)


def pia(network: Network, abar: Abar, kind: str, z0: Tensor, timesteps: list[int], t0: int, normalised: bool) -> float:
    """Kong et al. 2023, eq. 9 with p = 4; PIAN divides e0 by its mean absolute value and multiplies by sqrt(2 / pi)."""
    e0 = noise_seen(network, abar, kind, z0, t0)
    if normalised:
        mean = sum(abs(e) for e in e0.flatten().tolist()) / e0.numel()
        e0 = e0 * math.sqrt(2 / math.pi) / mean
    errors = []
    for t in timesteps:
        zt = math.sqrt(abar[t]) * z0 + math.sqrt(1 - abar[t]) * e0
        difference = e0 - noise_seen(network, abar, kind, zt, t)
        errors.append(sum(abs(d) ** 4 for d in difference.flatten().tolist()) / z0.numel())
    return -sum(errors) / len(errors)


def ddim(network: Network, abar: Abar, kind: str, z: Tensor, start: int, end: int) -> Tensor:
    eps = noise_seen(network, abar, kind, z, start)
    x0 = (z - math.sqrt(1 - abar[start]) * eps) / math.sqrt(abar[start])
    return math.sqrt(abar[end]) * x0 + math.sqrt(1 - abar[end]) * eps


def secmi(network: Network, abar: Abar, kind: str, z0: Tensor, t0: int) -> float:
    """Duan et al. 2023: up to t = 90 in tens, then to 100 and back."""
    z, t = z0, t0
    while t < 90:
        z, t = ddim(network, abar, kind, z, t, t + 10), t + 10
    up = ddim(network, abar, kind, z, 90, 100)
    back = ddim(network, abar, kind, up, 100, 90)
    return -sum(d**2 for d in (z - back).flatten().tolist()) / z0.numel()


def hanley_mcneil(auc: float, members: int, controls: int) -> float:
    """Standard error of an AUC with exponential scores (Hanley & McNeil 1982, eq. 1 and 2)."""
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = auc * (1 - auc) + (members - 1) * (q1 - auc**2) + (controls - 1) * (q2 - auc**2)
    return math.sqrt(variance / (members * controls))


def found(members: list[float], controls: list[float], rate: float) -> float | None:
    """Largest share of the members above a threshold that no more than `rate` of the controls exceed."""
    if rate * len(controls) < 1:
        return None
    shares = [0.0]
    for threshold in controls:
        if sum(c > threshold for c in controls) <= rate * len(controls):
            shares.append(sum(m > threshold for m in members) / len(members))
    return max(shares)
