"""Pretraining of a small autoencoder: pixels, a KL term and, where asked for, a perceptual and an adversarial term."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core import seeding
from pipeline.core.contracts import Batch
from pipeline.core.recipes import AdversaryRecipe, Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, Pairs, flip
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.networks.patch_discriminator import PatchDiscriminator
from pipeline.networks.perceptual import PerceptualDistance
from pipeline.networks.stable_diffusion.linear_start import Palette, start_linear
from pipeline.stages.base import tiny
from pipeline.stages.base.adversarial import Adversarial
from pipeline.stages.base.params import Autoencoder, Precision
from pipeline.training.callbacks import LossRow
from pipeline.training.loop import fit


def train_autoencoder(
    section: Autoencoder, precision: Precision, pairs: Pairs, seed: int, runtime: Runtime, folder: Path | None
) -> tuple[AutoencoderKL, list[LossRow]]:
    """Train on the images of `pairs` and return the autoencoder, whose scaling factor is set, and its losses.

    A killed run resumes from its checkpoints in `folder`; without one there are none.
    """
    seeding.seed_everything(seed, "autoencoder")
    vae = tiny.autoencoder(section, pairs.image.shape[-1])
    start_linear(vae, Palette.of(pairs.image.float() / 127.5 - 1))
    batches = Batches(pairs, section.batch_size, f"{seed}/autoencoder", CropAndFlip(section.crop))
    objective = build_objective(vae, section, seed, runtime)
    rows = fit(objective, batches, recipe(section, precision), runtime, folder, "autoencoder")
    vae.register_to_config(scaling_factor=_unit_scale(vae, pairs, runtime))
    return vae.eval(), rows


def recipe(section: Autoencoder, precision: Precision) -> Recipe:
    """Return how the autoencoder is trained."""
    adversary = AdversaryRecipe(section.discriminator_learning_rate, section.discriminator_betas)
    return Recipe(
        section.max_steps,
        section.learning_rate,
        betas=(0.9, 0.99),
        schedule="linear",
        max_grad_norm=1.0,
        precision=precision,
        checkpoint_every=100,
        adversary=adversary if section.adversarial_weight else None,
    )


def build_objective(vae: AutoencoderKL, section: Autoencoder, seed: int, runtime: Runtime) -> "Reconstruction":
    """Build the objective with the terms whose weight is above 0."""
    perceptual, adversary = None, None
    if section.perceptual_weight:
        perceptual = PerceptualDistance().to(runtime.device)
    if section.adversarial_weight:
        seeding.seed_everything(seed, "discriminator")
        discriminator = PatchDiscriminator(section.discriminator_channels)
        adversary = Adversarial(discriminator, section.adversarial_weight, section.adversarial_start, section.max_steps)
    return Reconstruction(vae, section.kl_weight, section.perceptual_weight, perceptual, adversary)


class CropAndFlip:
    """A random square crop, mirrored half of the time."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Crop and flip image and mask alike; an image smaller than the crop is not cropped."""
        top, left = (int(rng.integers(max(extent - self.size, 0) + 1)) for extent in image.shape[-2:])
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        return flip(image[window], mask[window], rng)


class Reconstruction(nn.Module):
    """L1 + L2 of the reconstruction, a small KL term and, where there are any, the terms of Rombach et al. (2022).

    These are a perceptual distance and an adversary. The frozen network of the distance is no part of the module, so
    that neither checkpoints nor modes reach it.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        kl_weight: float,
        perceptual_weight: float = 0.0,
        perceptual: PerceptualDistance | None = None,
        adversary: Adversarial | None = None,
    ) -> None:
        super().__init__()
        self.vae, self.kl_weight, self.perceptual_weight = vae, kl_weight, perceptual_weight
        self.frozen, self.adversary = [perceptual], adversary

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        image = batch.image * 2 - 1
        posterior = self.vae.encode(image).latent_dist
        noise = noise_of([seeding.torch_rng(s, "posterior") for s in batch.streams], posterior.mean.shape[1:])
        decoded = self.vae.decode(posterior.mean + posterior.std * noise.to(image.device)).sample
        decoded = at_least_float32(decoded)
        losses = {
            "l1": F.l1_loss(decoded, image),
            "l2": F.mse_loss(decoded, image),
            "kl": self.kl_weight * posterior.kl().mean(),
        }
        perceptual = self.frozen[0]
        if perceptual is not None:
            losses["perceptual"] = self.perceptual_weight * perceptual(decoded, image)
        return losses if self.adversary is None else losses | self.adversary(image, decoded, progress)


@torch.no_grad()
def _unit_scale(vae: AutoencoderKL, pairs: Pairs, runtime: Runtime) -> float:
    """Return the factor that gives the latents of the training images unit variance."""
    vae.eval()
    images = pairs.image[:256].float().to(runtime.device) / 127.5 - 1
    means = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(16)])
    return float(1 / means.std())
