"""Samplers of the timesteps of a training step: uniform, or by importance, those with a large loss more often."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

WARM_UP = 10  # how often each timestep is drawn before losses decide
UNIFORM = 0.01  # share of the draws that losses never decide
DECAY = 0.9  # of the moving average of squared losses


class TimestepSampler(Protocol):
    """Samples timesteps."""

    def sample(self, rngs: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        """Sample timesteps [B] long, one per random stream, and the weights [B] that keep the mean loss unbiased."""
        ...

    def update(self, timesteps: Tensor, losses: Tensor) -> None:
        """Update the sampler with the losses [B] of sampled timesteps [B], before their weights."""
        ...


class UniformTimestepSampler(nn.Module):
    """The timesteps first .. last, each equally often; weights 1."""

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first, self.last = first, last

    def sample(self, rngs: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        drawn = [torch.randint(self.first, self.last + 1, (), generator=rng) for rng in rngs]
        return torch.stack(drawn), torch.ones(len(rngs))

    def update(self, timesteps: Tensor, losses: Tensor) -> None:
        """Learn nothing."""


class ImportanceTimestepSampler(nn.Module):
    """Timesteps first .. last by the root of their mean squared loss (Nichol & Dhariwal 2021, sec. 3.3).

    Until each was drawn ten times, by how often it is still missing. The weight of timestep t is 1 / (n p_t), n their
    number: the mean of weighted losses estimates the mean over uniform timesteps. The public ImgX code multiplies by
    n p_t instead. Several processes each learn from their own losses.
    """

    counts: Tensor
    squares: Tensor

    def __init__(self, first: int, last: int) -> None:
        super().__init__()
        self.first = first
        self.register_buffer("counts", torch.zeros(last - first + 1, dtype=torch.long))
        self.register_buffer("squares", torch.zeros(last - first + 1, dtype=torch.float64))

    @property
    def probabilities(self) -> Tensor:
        """Probability of each timestep [n], on the CPU, in float64."""
        missing = (WARM_UP - self.counts.cpu()).clamp(min=0).double()
        if missing.any():
            return missing / missing.sum()
        size = self.squares.cpu().sqrt()
        even = torch.full_like(size, 1 / len(size))
        return even if not size.any() else (1 - UNIFORM) * size / size.sum() + UNIFORM * even

    def sample(self, rngs: Sequence[torch.Generator]) -> tuple[Tensor, Tensor]:
        probabilities = self.probabilities
        drawn = torch.cat([torch.multinomial(probabilities, 1, generator=rng) for rng in rngs])
        warming = bool((self.counts < WARM_UP).any())  # some probabilities are 0: no weight makes that unbiased
        weights = torch.ones(len(drawn)) if warming else (1 / (len(probabilities) * probabilities[drawn])).float()
        return drawn + self.first, weights

    def update(self, timesteps: Tensor, losses: Tensor) -> None:
        for place, loss in zip((timesteps - self.first).tolist(), losses.detach().double().tolist(), strict=True):
            new = not self.counts[place]
            self.squares[place] = loss**2 if new else DECAY * self.squares[place] + (1 - DECAY) * loss**2
            self.counts[place] += 1
