"""Latent batches: pairs as a ControlNet is trained on them, with posterior moments and prompts computed once."""

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
class LatentBatch:
    """One process's share of a global batch, in latents."""

    moments: Tensor  # [B, 2C, h, w] mean and log-variance of the posterior; sampled anew in every step
    text: Tensor  # [B, L, D]
    image: Tensor  # [B, 3, H, W] in [0, 1]
    mask: Tensor  # [B, H, W] long
    streams: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.streams)

    def to(self, device: torch.device) -> "LatentBatch":
        """Copy the batch to another device."""
        moments, text, image, mask = (to_device(part, device) for part in self._tensors)
        return LatentBatch(moments, text, image, mask, self.streams)

    def part(self, start: int, stop: int) -> "LatentBatch":
        """Return a micro-batch."""
        window = slice(start, stop)
        moments, text, image, mask = (part[window] for part in self._tensors)
        return LatentBatch(moments, text, image, mask, self.streams[window])

    @property
    def _tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.moments, self.text, self.image, self.mask


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
        self.prompts = {prompt: model.embed([prompt])[0].cpu() for prompt in sorted({*pairs.prompts, ""})}
        model.offload()

    def batch(self, step: int, rank: int = 0, world: int = 1) -> LatentBatch:
        """Return the share of one process: every world-th sample of the global batch, counted from its rank."""
        samples = list(enumerate(self.plan(step)))[rank::world]
        streams = [f"{self.seed}/{step}/{position}" for position, _ in samples]
        items = [self._item(index, stream) for (_, index), stream in zip(samples, streams, strict=True)]
        moments, text, image, mask = (torch.stack(column) for column in zip(*items, strict=True))
        return LatentBatch(moments, text, image, mask, tuple(streams))

    def _item(self, index: int, stream: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        rng = seeding.numpy_rng(stream, "view")
        flipped, no_prompt = self.flip and rng.random() < 0.5, rng.random() < self.dropout
        image, mask = self.pairs.image[index].float() / 255, self.pairs.mask[index].long()
        if flipped:
            image, mask = image.flip(-1), mask.flip(-1)
        prompt = "" if no_prompt else self.pairs.prompts[index]
        return self.moments[int(flipped)][index], self.prompts[prompt], image, mask


def sample_noise(model: StableDiffusion, batch: LatentBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Sample latents, noise and timesteps [B] (on the CPU) of a batch, from each sample's own random stream."""
    rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
    shape = (batch.moments.shape[1] // 2, *batch.moments.shape[2:])
    device = batch.moments.device
    latents = model.latents(batch.moments, to_device(noise_of(rngs, shape), device))
    t = torch.cat([torch.randint(len(model.schedule), (1,), generator=rng) for rng in rngs])
    return latents, to_device(noise_of(rngs, shape), device), t
