"""Batches without content on the meta device, shaped as in training, with which a generator's work is counted."""

from typing import Any

import torch

from pipeline.core.contracts import Batch
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch
from pipeline.networks.stable_diffusion.model import StableDiffusion

META = torch.device("meta")


def base_of(generator: Any) -> StableDiffusion | None:
    """Return the base that a generator is built over; None where it uses none."""
    return getattr(generator, "model", None)


def blank_batch(generator: Any, size: int, samples: int) -> LatentBatch | Batch:
    """Return samples of images of `size` pixels as the objective of a generator takes them."""
    base = base_of(generator)
    return blank_pixels(size, samples) if base is None else blank_latents(base, size, samples)


def blank_latents(base: StableDiffusion, size: int, samples: int) -> LatentBatch:
    """Return samples in the latents of a base."""
    side, channels = size // base.factor, 2 * base.vae.config["latent_channels"]
    with META:
        return LatentBatch(
            torch.empty(samples, channels, side, side),
            torch.empty(samples, *base.text_shape),
            torch.empty(samples, 3, size, size),
            torch.zeros(samples, size, size, dtype=torch.long),
            tuple(map(str, range(samples))),
        )


def blank_pixels(size: int, samples: int) -> Batch:
    """Return samples in pixels, without prompts."""
    with META:
        image, mask = torch.empty(samples, 3, size, size), torch.zeros(samples, size, size, dtype=torch.long)
    return Batch(image, mask, ("",) * samples, tuple(map(str, range(samples))))
