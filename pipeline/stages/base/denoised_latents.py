"""Latents that the denoiser of a base makes itself, some of them from training images, for training its decoder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core import files, seeding
from pipeline.core.progress import track
from pipeline.data.loading import Pairs
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base.params import STRENGTHS, Decoder

AT_ONCE, ENCODED_AT_ONCE = 32, 8  # latents and images per forward pass


@dataclass(frozen=True)
class DenoisedLatents:
    """Latents of noised training images, each beside its image, and latents that began as noise."""

    paired: Tensor  # [N, C, h, w]
    images: Tensor  # [N, 3, H, W] uint8, what `paired` was made from
    sampled: Tensor  # [N, C, h, w]

    @classmethod
    def made(cls, model: StableDiffusion, pairs: Pairs, section: Decoder, seed: str, path: Path) -> "DenoisedLatents":
        """Return the latents in the file `path`; where there is none, or a damaged one, make them and write it.

        Of the `section.latents` paired latents, equally many have each of the STRENGTHS; half of the images are
        mirrored.
        """
        try:
            return cls(**load_file(path))
        except (OSError, SafetensorError):
            tensors = _make(model, pairs, section, seed)
        with files.replacing(path) as temporary:
            save_file(tensors, temporary)
        return cls(**tensors)


def _make(model: StableDiffusion, pairs: Pairs, section: Decoder, seed: str) -> dict[str, Tensor]:
    count, order = section.latents, seeding.numpy_rng(seed, "order")
    rounds = -(-count // len(pairs))
    chosen = np.concatenate([order.permutation(len(pairs)) for _ in range(rounds)])[:count].tolist()
    images = pairs.image[chosen].contiguous()
    mirrored = torch.from_numpy(order.random(count) < 0.5)
    images[mirrored] = images[mirrored].flip(-1)
    prompts = [pairs.prompts[index] for index in chosen]
    groups: list[tuple[str, float, list[int]]] = [("sampled", 1.0, list(range(count)))]
    groups += [
        ("paired", strength, list(range(place, count, len(STRENGTHS)))) for place, strength in enumerate(STRENGTHS)
    ]
    parts = [
        (kind, strength, rows[first : first + AT_ONCE])
        for kind, strength, rows in groups
        for first in range(0, len(rows), AT_ONCE)
    ]
    made: dict[str, dict[int, Tensor]] = {"sampled": {}, "paired": {}}
    for kind, strength, rows in track(parts, "latents for the decoder"):
        streams = [seeding.torch_rng(seed, kind, row) for row in rows]
        part = denoised(model, images[rows], [prompts[row] for row in rows], streams, strength, section)
        made[kind] |= dict(zip(rows, part.cpu(), strict=True))
    return {kind: torch.stack([some[row] for row in range(count)]) for kind, some in made.items()} | {"images": images}


@torch.no_grad()
def denoised(
    model: StableDiffusion,
    images: Tensor,
    prompts: Sequence[str],
    streams: Sequence[torch.Generator],
    strength: float,
    section: Decoder,
) -> Tensor:
    """Noise the latents of images [B, 3, H, W] uint8 and run a share `strength` of the DDIM steps; [B, C, h, w].

    With a strength of 1, nothing is left of the images; with 0, the latents of the images are returned.
    """
    device = model.unet.device
    shape = (model.unet.config["in_channels"], *(side // model.factor for side in images.shape[-2:]))
    latents = torch.empty(0)
    if strength < 1:
        means = [model.moments(part.float() / 255).chunk(2, dim=1)[0] for part in images.split(ENCODED_AT_ONCE)]
        latents = at_least_float32(torch.cat(means)) * model.vae.config["scaling_factor"]
    scheduler: Any = DDIMScheduler.from_config(model.scheduler.config)
    scheduler.set_timesteps(section.sampling_steps)
    timesteps = scheduler.timesteps.tolist()
    timesteps = timesteps[len(timesteps) - section.kept_steps(strength) :]
    text = model.embed(prompts)
    for step, timestep in enumerate(timesteps):
        noise = noise_of(streams, shape).to(device)
        if step == 0:
            times = torch.full((len(images),), timestep, device=device)
            latents = noise if strength == 1 else model.schedule.q_sample(latents, noise, times)
            noise = noise_of(streams, shape).to(device)
        predicted = at_least_float32(model.unet(latents, timestep, text).sample)
        latents = scheduler.step(
            predicted, timestep, latents, eta=section.eta, variance_noise=noise, return_dict=False
        )[0]
    return latents
