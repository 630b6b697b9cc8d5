"""Latent batches: pairs as a ControlNet is trained on them, with posterior moments and prompts computed once."""

import hashlib
from dataclasses import dataclass

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core import files, seeding
from pipeline.core.device import to_device
from pipeline.core.progress import track
from pipeline.data.loading import Batches, Pairs
from pipeline.diffusion.schedule import noise_of
from pipeline.networks.stable_diffusion.model import StableDiffusion


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
        self.moments = [_moments(model, pairs.image, flipped) for flipped in ((False, True) if flip else (False,))]
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


def _moments(model: StableDiffusion, images: Tensor, flipped: bool) -> Tensor:
    """Return the moments of all images, from the kept file where there is one."""
    if model.keep is None:
        return _encoded(model, images, flipped)
    folder = model.keep / _content(model, images, flipped)
    path = folder / "moments.safetensors"
    if files.is_intact(folder):
        return load_file(path)["moments"]
    moments = _encoded(model, images, flipped).contiguous()
    with files.replacing(path) as temporary:
        save_file({"moments": moments}, temporary)
    files.seal(folder)
    return moments


def _encoded(model: StableDiffusion, images: Tensor, flipped: bool) -> Tensor:
    parts = track(images.split(8), "latents of mirrored images" if flipped else "latents of images")
    return torch.cat([model.moments((part.flip(-1) if flipped else part).float() / 255).cpu() for part in parts])


def _content(model: StableDiffusion, images: Tensor, flipped: bool) -> str:
    """Hash what the bytes of the moments depend on: images, autoencoder, device and its products, threads."""
    settings = f"{images.shape} {flipped} {_device(model.unet.device)} {torch.get_num_threads()}"
    total = hashlib.sha256(settings.encode())
    total.update(images.numpy().tobytes())
    for name, weight in model.autoencoder.state_dict().items():
        total.update(name.encode() + weight.cpu().numpy().tobytes())
    return total.hexdigest()[:32]


def _device(device: torch.device) -> str:
    """Name a device: a GPU by its name and whether it multiplies in TF32."""
    if device.type != "cuda":
        return device.type
    exact = not torch.backends.cudnn.allow_tf32 and torch.get_float32_matmul_precision() == "highest"
    return f"{torch.cuda.get_device_name(device)} {'fp32' if exact else 'tf32'}"
