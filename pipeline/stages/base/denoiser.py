"""Pretraining of a small denoiser on latents that are encoded once, not in every step."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core import seeding
from pipeline.core.device import to_device
from pipeline.core.recipes import Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Batches, Pairs
from pipeline.diffusion.min_snr import min_snr_weights
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.moments import moments_of
from pipeline.stages.base.params import Denoiser, Precision
from pipeline.training.callbacks import LossRow
from pipeline.training.loop import fit


def train_denoiser(
    unet: UNet2DConditionModel,
    section: Denoiser,
    precision: Precision,
    pairs: Pairs,
    seed: int,
    runtime: Runtime,
    work: Path,
) -> list[LossRow]:
    """Train the U-Net of the base in work/base, all other parts of which stay as they are, and return its losses.

    Its weights are averaged in the end where `ema_decay` is given. Checkpoints lie in work/denoiser and latents in
    work/latents; a killed run resumes from both.
    """
    model = replace(StableDiffusion.open(work / "base", keep=work / "latents"), unet=unet).to(runtime.device)
    with runtime.autocast(precision):
        batches: Any = EncodedBatches(model, pairs, section.batch_size, f"{seed}/denoiser")
    recipe = Recipe(
        section.max_steps,
        section.learning_rate,
        schedule="one_cycle",
        max_grad_norm=1.0,
        precision=precision,
        checkpoint_every=50,
        ema_decay=section.ema_decay,
    )
    objective = Denoising(model, section.prompt_dropout, section.min_snr)
    return fit(objective, batches, recipe, runtime, work / "denoiser", "denoiser")


@dataclass(frozen=True)
class EncodedBatch:
    """One process's share of a global batch: posterior moments in place of images."""

    moments: Tensor  # [B, 2C, h, w] mean and log-variance of the posterior; sampled anew in every step
    prompts: tuple[str, ...]
    streams: tuple[str, ...]  # as contracts.Batch's

    def __len__(self) -> int:
        return len(self.streams)

    def to(self, device: torch.device) -> "EncodedBatch":
        """Return the batch on another device."""
        return replace(self, moments=to_device(self.moments, device))

    def part(self, start: int, stop: int) -> "EncodedBatch":
        """Return a micro-batch."""
        window = slice(start, stop)
        return EncodedBatch(self.moments[window], self.prompts[window], self.streams[window])


class EncodedBatches:
    """Global batches of latents, mirrored half of the time; images and mirrored images are encoded once, here.

    They are encoded in groups of a batch, so that the moments are those that a training step would compute. The
    encoder is not symmetric: mirrored images have moments of their own.
    """

    def __init__(self, model: StableDiffusion, pairs: Pairs, batch_size: int, seed: str) -> None:
        self.pairs, self.batch_size, self.seed = pairs, batch_size, seed
        self.plan = Batches(pairs, batch_size, seed).plan
        self.moments = [moments_of(model, pairs.image, flipped, batch_size) for flipped in (False, True)]

    def batch(self, step: int, rank: int = 0, world: int = 1) -> EncodedBatch:
        """Return the share of one process: every world-th sample of the global batch, counted from its rank."""
        samples = list(enumerate(self.plan(step)))[rank::world]
        streams = tuple(f"{self.seed}/{step}/{position}" for position, _ in samples)
        views = [seeding.numpy_rng(stream, "augment").random() < 0.5 for stream in streams]
        chosen = [self.moments[int(view)][index] for view, (_, index) in zip(views, samples, strict=True)]
        return EncodedBatch(torch.stack(chosen), tuple(self.pairs.prompts[index] for _, index in samples), streams)


class Denoising(nn.Module):
    """Mean squared error of the denoiser's prediction on noisy latents (Rombach et al. 2022, eq. 2).

    With `min_snr`, its gamma, each sample's error has the weight of Hang et al. (2023).
    """

    def __init__(self, model: StableDiffusion, prompt_dropout: float, min_snr: float | None = None) -> None:
        super().__init__()
        self.unet, self.frozen, self.prompt_dropout, self.min_snr = model.unet, [model], prompt_dropout, min_snr

    def forward(self, batch: EncodedBatch, progress: float) -> dict[str, Tensor]:
        model, moments = self.frozen[0], batch.moments
        rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
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
        predicted = at_least_float32(self.unet(noisy, timesteps, model.embed(prompts)).sample)
        target = model.schedule.target(latents, noise, timesteps)
        if self.min_snr is None:
            return {"denoising": F.mse_loss(predicted, target)}
        weights = min_snr_weights(model.schedule, timesteps, self.min_snr)
        errors = F.mse_loss(predicted, target, reduction="none").flatten(1).mean(1)
        return {"denoising": (weights * errors).mean()}
