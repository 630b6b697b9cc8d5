"""The adversarial term of an autoencoder: a discriminator of patches and the hinge losses (Esser et al. 2021)."""

import math

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pipeline.diffusion.schedule import at_least_float32

WARM_UP = 50  # optimiser steps that the discriminator makes before the decoder follows it


class Adversarial(nn.Module):
    """A discriminator that learns from some step on and counts for the decoder, with a fixed weight, from a later."""

    def __init__(self, discriminator: nn.Module, weight: float, start: float, max_steps: int) -> None:
        """Count after a share `start` of `max_steps`; the discriminator begins to learn WARM_UP steps earlier."""
        super().__init__()
        self.discriminator, self.weight = discriminator, weight
        first = math.floor(start * max_steps)
        self.counts, self.begins = first / max_steps, max(first - WARM_UP, 0) / max_steps  # compared with progress

    def forward(self, image: Tensor, decoded: Tensor, progress: float) -> dict[str, Tensor]:
        """Return the losses in use at this progress k / N, of images [B, 3, H, W] in [-1, 1] and their reconstructions.

        The gradient of `adversarial` reaches the reconstructions alone, that of `discriminator` its weights alone.
        """
        losses: dict[str, Tensor] = {}
        if progress >= self.counts:
            weights = {name: weight.detach() for name, weight in self.discriminator.named_parameters()}
            losses["adversarial"] = self.weight * decoder_loss(functional_call(self.discriminator, weights, (decoded,)))
        if progress >= self.begins:
            real, made = self.discriminator(torch.cat([image, decoded.detach()])).chunk(2)
            losses["discriminator"] = discriminator_loss(real, made)
        return losses


def decoder_loss(made: Tensor) -> Tensor:
    """Return the hinge loss of a decoder: minus the mean logit of what it made."""
    return -at_least_float32(made).mean()


def discriminator_loss(real: Tensor, made: Tensor) -> Tensor:
    """Return the hinge loss of a discriminator: the mean of relu(1 - logit) over real and relu(1 + logit) over made."""
    return (F.relu(1 - at_least_float32(real)).mean() + F.relu(1 + at_least_float32(made)).mean()) / 2
