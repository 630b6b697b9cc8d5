"""Latent batches: pairs as a ControlNet is trained on them, with posterior moments and prompts computed once.

The host gathers bytes and draws noise, the device makes numbers in [0, 1] of the bytes and mirrors them: at 384 pixels
the host would otherwise spend more time on a sample than a fast accelerator.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.core import seeding
from pipeline.core.device import to_device
from pipeline.data.loading import Batches, Pairs
from pipeline.diffusion.schedule import noise_of
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.moments import moments_of


@dataclass(frozen=True)
class Draws:
    """What a step draws for each sample, from the sample's own stream on the CPU: the same on every device."""

    posterior: Tensor  # [B, C, h, w] noise with which the autoencoder's posterior is sampled
    noise: Tensor  # [B, C, h, w]
    t: Tensor  # [B] timesteps; they stay on the CPU

    @classmethod
    def of(cls, streams: Sequence[str], shape: tuple[int, ...], timesteps: int) -> "Draws":
        """Draw noise of a shape [C, h, w] and timesteps below a number, in the order posterior, timestep, noise."""
        rngs = [seeding.torch_rng(stream, "noise") for stream in streams]
        posterior = noise_of(rngs, shape)
        t = torch.cat([torch.randint(timesteps, (1,), generator=rng) for rng in rngs])
        return cls(posterior, noise_of(rngs, shape), t)

    def to(self, device: torch.device) -> "Draws":
        """Copy the noise to a device."""
        return Draws(to_device(self.posterior, device), to_device(self.noise, device), self.t)

    def part(self, window: slice) -> "Draws":
        """Return the draws of some samples."""
        return Draws(self.posterior[window], self.noise[window], self.t[window])


@dataclass(frozen=True)
class LatentBatch:
    """One process's share of a global batch, in latents."""

    moments: Tensor  # [B, 2C, h, w] mean and log-variance of the posterior; sampled anew in every step
    text: Tensor  # [B, L, D] as StableDiffusion.embed returns it
    image: Tensor  # [B, 3, H, W] in [0, 1]
    mask: Tensor  # [B, H, W] long
    streams: tuple[str, ...]
    draws: Draws | None = None  # None: drawn when they are asked for

    def __len__(self) -> int:
        return len(self.streams)

    def to(self, device: torch.device) -> "LatentBatch":
        """Copy the batch to another device."""
        moments, text, image, mask = (to_device(part, device) for part in self._tensors)
        draws = None if self.draws is None else self.draws.to(device)
        return LatentBatch(moments, text, image, mask, self.streams, draws)

    def part(self, start: int, stop: int) -> "LatentBatch":
        """Return a micro-batch."""
        window = slice(start, stop)
        moments, text, image, mask = (part[window] for part in self._tensors)
        draws = None if self.draws is None else self.draws.part(window)
        return LatentBatch(moments, text, image, mask, self.streams[window], draws)

    @property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.moments, self.text, self.image, self.mask


@dataclass(frozen=True)
class HostBatch:
    """A latent batch in the host's memory, pictures as the bytes of their set; `to` makes it one of a device."""

    moments: Tensor  # [B, 2C, h, w] of the images as they will be, mirrored or not
    text: Tensor  # [B, L, D]
    image: Tensor  # [B, 3, H, W] uint8, not mirrored
    mask: Tensor  # [B, H, W] uint8, not mirrored
    mirrored: Tensor | None  # [B] bool, the samples that are mirrored on the device; None: none
    streams: tuple[str, ...]
    draws: Draws

    def __len__(self) -> int:
        return len(self.streams)

    def to(self, device: torch.device) -> LatentBatch:
        """Copy the bytes to a device, without waiting for it, and convert and mirror them there."""
        moments, text, image, mask = (
            to_device(part, device) for part in (self.moments, self.text, self.image, self.mask)
        )
        if self.mirrored is not None:
            mirrored = to_device(self.mirrored, device)
            image, mask = _mirror(image, mirrored), _mirror(mask, mirrored)
        whole = torch.full((), 255.0, device=device)  # CUDA would multiply by 1 / 255 were it a number, and round twice
        return LatentBatch(moments, text, image.float() / whole, mask.long(), self.streams, self.draws.to(device))

    def none(self) -> "HostBatch":
        """Return a batch of the same shapes without samples."""
        mirrored = None if self.mirrored is None else self.mirrored[:0]
        parts = self.moments[:0], self.text[:0], self.image[:0], self.mask[:0]
        return HostBatch(*parts, mirrored, (), self.draws.part(slice(0)))


def _mirror(values: Tensor, chosen: Tensor) -> Tensor:
    return torch.where(chosen.view(-1, *[1] * (values.ndim - 1)), values.flip(-1), values)


class LatentBatches:
    """Global batches in latents: the autoencoder and the text tower see every image and prompt once, not every step.

    Afterwards both are offloaded. Flipped images have moments of their own: the encoder is not symmetric.
    """

    def __init__(
        self, model: StableDiffusion, pairs: Pairs, batch_size: int, seed: str, flip: bool, dropout: float
    ) -> None:
        self.pairs, self.batch_size, self.seed, self.flip, self.dropout = pairs, batch_size, seed, flip, dropout
        self.plan = Batches(pairs, batch_size, seed).plan
        self.moments = [moments_of(model, pairs.image, flipped) for flipped in ((False, True) if flip else (False,))]
        prompts, size = sorted({*pairs.prompts, ""}), pairs.image.shape[-1]
        self.prompts = {prompt: model.embed([prompt], size)[0].cpu() for prompt in prompts}
        self.timesteps = len(model.schedule)
        model.offload()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> HostBatch:
        """Return the share of one process: every world-th sample of the global batch, counted from its rank."""
        places = list(enumerate(self.plan(step)))[rank::world]
        return self.gather([(index, f"{self.seed}/{step}/{position}") for position, index in places])

    def gather(self, samples: Sequence[tuple[int, str]]) -> HostBatch:
        """Return the batch of samples, each the index of a pair and the name of a random stream."""
        streams = tuple(stream for _, stream in samples)
        indices = torch.tensor([index for index, _ in samples])
        views = [self._view(index, stream) for index, stream in samples]
        mirrored, moments, text = (list(column) for column in zip(*views, strict=True))
        pictures = self.pairs.image.index_select(0, indices), self.pairs.mask.index_select(0, indices)
        shape = (moments[0].shape[0] // 2, *moments[0].shape[1:])
        draws = Draws.of(streams, shape, self.timesteps)
        chosen = torch.tensor(mirrored) if self.flip else None
        return HostBatch(torch.stack(moments), torch.stack(text), *pictures, chosen, streams, draws)

    def _view(self, index: int, stream: str) -> tuple[bool, Tensor, Tensor]:
        """Return whether a sample is mirrored, its moments and its prompt."""
        rng = seeding.numpy_rng(stream, "view")
        mirrored, no_prompt = self.flip and rng.random() < 0.5, rng.random() < self.dropout
        prompt = "" if no_prompt else self.pairs.prompts[index]
        return mirrored, self.moments[int(mirrored)][index], self.prompts[prompt]


def sample_noise(model: StableDiffusion, batch: LatentBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Sample latents, noise and timesteps [B] (on the CPU) of a batch, from each sample's own random stream."""
    shape = (batch.moments.shape[1] // 2, *batch.moments.shape[2:])
    draws = (batch.draws or Draws.of(batch.streams, shape, len(model.schedule))).to(batch.moments.device)
    return model.latents(batch.moments, draws.posterior), draws.noise, draws.t
