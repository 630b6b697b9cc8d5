"""Pretraining of a small base model on the training images: autoencoder, then denoiser."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core import files, seeding, tables
from pipeline.core.contracts import Batch, Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, Pairs, flip
from pipeline.diffusion.schedule import noise_of
from pipeline.networks.stable_diffusion.linear_start import Palette, start_linear
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.model_index import MODEL_INDEX, index_path
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Base, Denoiser
from pipeline.training.loop import fit


def pretrain(base: Base, size: int, seed: int, pairs: Pairs, runtime: Runtime, work: Path) -> None:
    """Train a small base on images of `size` pixels (their masks are not used) and write it to work/base."""
    assert base.autoencoder and base.denoiser  # Base has checked it
    folder = work / "base"
    vae = _train_autoencoder(base, size, seed, pairs, runtime, work)
    _save_text_tower(base.denoiser, seed, folder)
    vae.save_pretrained(folder / "vae")
    _save_scheduler(base.denoiser, folder)
    latent_size = size // 2 ** (len(base.autoencoder.channels) - 1)
    seeding.seed_everything(seed, "denoiser")
    unet = tiny.denoiser(base.denoiser, base.autoencoder.latent_channels, latent_size)
    unet.save_pretrained(folder / "unet")
    _train_denoiser(base, unet, seed, pairs, runtime, work)
    unet.save_pretrained(folder / "unet")
    files.write_json(index_path(folder), MODEL_INDEX)


def _train_autoencoder(base: Base, size: int, seed: int, pairs: Pairs, runtime: Runtime, work: Path) -> AutoencoderKL:
    section = base.autoencoder
    assert section
    seeding.seed_everything(seed, "autoencoder")
    vae = tiny.autoencoder(section, size)
    start_linear(vae, Palette.of(pairs.image.float() / 127.5 - 1))
    batches = Batches(pairs, section.batch_size, f"{seed}/autoencoder", CropAndFlip(section.crop))
    recipe = Recipe(
        section.max_steps,
        section.learning_rate,
        betas=(0.9, 0.99),
        schedule="linear",
        max_grad_norm=1.0,
        precision=base.precision,
        checkpoint_every=100,
    )
    objective = Reconstruction(vae, section.kl_weight)
    rows = fit(objective, batches, recipe, runtime, work / "autoencoder", "autoencoder")
    _save_losses(work, "autoencoder", rows)
    vae.register_to_config(scaling_factor=_unit_scale(vae, pairs, runtime))
    return vae.eval()


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
    """L1 + L2 of the reconstruction and a small KL term (Rombach et al. 2022, without the adversarial part)."""

    def __init__(self, vae: AutoencoderKL, kl_weight: float) -> None:
        super().__init__()
        self.vae, self.kl_weight = vae, kl_weight

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        image = batch.image * 2 - 1
        posterior = self.vae.encode(image).latent_dist
        noise = noise_of([seeding.torch_rng(s, "posterior") for s in batch.streams], posterior.mean.shape[1:])
        decoded = self.vae.decode(posterior.mean + posterior.std * noise.to(image.device)).sample.float()
        return {
            "l1": F.l1_loss(decoded, image),
            "l2": F.mse_loss(decoded, image),
            "kl": self.kl_weight * posterior.kl().mean(),
        }


@torch.no_grad()
def _unit_scale(vae: AutoencoderKL, pairs: Pairs, runtime: Runtime) -> float:
    """Return the factor that gives the latents of the training images unit variance."""
    vae.eval()
    images = pairs.image[:256].float().to(runtime.device) / 127.5 - 1
    means = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(16)])
    return float(1 / means.std())


def _save_text_tower(section: Denoiser, seed: int, folder: Path) -> None:
    seeding.seed_everything(seed, "text")
    tiny.text_tower(section.text_width).save_pretrained(folder / "text_encoder")
    tiny.tokenizer().save_pretrained(folder / "tokenizer")


def _save_scheduler(section: Denoiser, folder: Path) -> None:
    tiny.scheduler(section.prediction).save_pretrained(folder / "scheduler")


def _train_denoiser(
    base: Base, unet: UNet2DConditionModel, seed: int, pairs: Pairs, runtime: Runtime, work: Path
) -> None:
    section = base.denoiser
    assert section
    model = replace(StableDiffusion.open(work / "base").to(runtime.device), unet=unet)
    batches = Batches(pairs, section.batch_size, f"{seed}/denoiser", flip)
    recipe = Recipe(
        section.max_steps,
        section.learning_rate,
        schedule="one_cycle",
        max_grad_norm=1.0,
        precision=base.precision,
        checkpoint_every=50,
    )
    objective = Denoising(model, section.prompt_dropout)
    rows = fit(objective, batches, recipe, runtime, work / "denoiser", "denoiser")
    _save_losses(work, "denoiser", rows)


class Denoising(nn.Module):
    """Mean squared error of the denoiser's prediction on noisy latents (Rombach et al. 2022, eq. 2)."""

    def __init__(self, model: StableDiffusion, prompt_dropout: float) -> None:
        super().__init__()
        self.unet, self.frozen, self.prompt_dropout = model.unet, [model], prompt_dropout

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        model = self.frozen[0]
        rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
        moments = model.moments(batch.image)
        shape = (moments.shape[1] // 2, *moments.shape[2:])
        latents = model.latents(moments, noise_of(rngs, shape).to(moments.device))
        timesteps = torch.cat([torch.randint(len(model.schedule), (1,), generator=rng) for rng in rngs])
        noise = noise_of(rngs, shape).to(moments.device)
        prompts = [
            "" if torch.rand(1, generator=rng) < self.prompt_dropout else prompt
            for rng, prompt in zip(rngs, batch.prompts, strict=True)
        ]
        timesteps = timesteps.to(moments.device)
        noisy = model.schedule.q_sample(latents, noise, timesteps)
        predicted = self.unet(noisy, timesteps, model.embed(prompts)).sample
        return {"denoising": F.mse_loss(predicted.float(), model.schedule.target(latents, noise, timesteps))}


def _save_losses(work: Path, name: str, rows: list[dict[str, float]]) -> None:
    table = [{"step": step, **row} for step, row in enumerate(rows)]
    tables.write_table(work / "base" / f"losses_{name}.csv", table)
