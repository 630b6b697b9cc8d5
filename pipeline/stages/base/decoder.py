"""Further training of a small autoencoder's decoder, on latents as the denoiser makes them.

The decoder of an autoencoder learns from latents of images. Those of a small denoiser lack detail, so the images that
it decodes from them are blurred. Here the decoder learns to turn such latents into sharp images, as decoders learn from
noisy latents in Zheng et al. (2025, arXiv 2510.11690). Encoder, denoiser and latents stay as they are.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from pipeline.core import seeding
from pipeline.core.device import to_device
from pipeline.core.recipes import AdversaryRecipe, Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Pairs
from pipeline.diffusion.schedule import at_least_float32
from pipeline.networks.perceptual import PerceptualDistance
from pipeline.networks.projected_discriminator import ProjectedDiscriminator
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base.adversarial import decoder_loss, discriminator_loss
from pipeline.stages.base.denoised_latents import DenoisedLatents
from pipeline.stages.base.params import Decoder, Precision
from pipeline.training.callbacks import LossRow
from pipeline.training.loop import fit

SHIFT = 8  # the discriminator sees images that are shifted by up to an eighth of their side


def train_decoder(
    section: Decoder, precision: Precision, pairs: Pairs, seed: int, runtime: Runtime, work: Path
) -> tuple[AutoencoderKL, list[LossRow]]:
    """Train the decoder of the base in work/base and return its autoencoder, with averaged weights, and the losses.

    A killed run resumes from its checkpoints in work/decoder; the latents lie in work/decoder_latents.safetensors.
    """
    model = StableDiffusion.open(work / "base").to(runtime.device)
    with runtime.autocast(precision):
        path = work / "decoder_latents.safetensors"
        latents = DenoisedLatents.made(model, pairs, section, f"{seed}/decoder_latents", path)
    perceptual = PerceptualDistance().to(runtime.device)
    seeding.seed_everything(seed, "projected discriminator")
    objective = Decoding(model.vae, section, perceptual, ProjectedDiscriminator())
    batches: Any = DecoderBatches(latents, section.batch_size, f"{seed}/decoder")
    recipe = Recipe(
        section.max_steps,
        section.learning_rate,
        betas=(0.5, 0.99),
        schedule="linear",
        max_grad_norm=1.0,
        precision=precision,
        checkpoint_every=50,
        ema_decay=section.ema_decay,
        adversary=AdversaryRecipe(section.discriminator_learning_rate, (0.0, 0.99)),
    )
    rows = fit(objective, batches, recipe, runtime, work / "decoder", "decoder")
    return model.vae.requires_grad_(False).eval(), rows


@dataclass(frozen=True)
class DecoderBatch:
    """One process's share of a global batch: latents with their images, latents without, and further images."""

    paired: Tensor  # [B, C, h, w]
    image: Tensor  # [B, 3, H, W] in [-1, 1], of `paired`
    sampled: Tensor  # [B, C, h, w]
    other: Tensor  # [B, 3, H, W] in [-1, 1]
    streams: tuple[str, ...]  # as contracts.Batch's

    def __len__(self) -> int:
        return len(self.streams)

    def to(self, device: torch.device) -> "DecoderBatch":
        """Return the batch on another device."""
        paired, image, sampled, other = (
            to_device(one, device) for one in (self.paired, self.image, self.sampled, self.other)
        )
        return DecoderBatch(paired, image, sampled, other, self.streams)

    def part(self, start: int, stop: int) -> "DecoderBatch":
        """Return a micro-batch."""
        window = slice(start, stop)
        return DecoderBatch(
            self.paired[window], self.image[window], self.sampled[window], self.other[window], self.streams[window]
        )


@dataclass(frozen=True)
class DecoderBatches:
    """Global batches of `batch_size` paired and as many sampled latents, drawn with replacement."""

    latents: DenoisedLatents
    batch_size: int
    seed: str

    def batch(self, step: int, rank: int = 0, world: int = 1) -> DecoderBatch:
        """Return the share of one process: every world-th sample of the global batch, counted from its rank."""
        streams = tuple(f"{self.seed}/{step}/{position}" for position in range(self.batch_size))[rank::world]
        count = len(self.latents.images)
        draws = torch.stack([torch.randint(count, (3,), generator=seeding.torch_rng(one, "draw")) for one in streams])
        paired, sampled, other = draws.unbind(1)
        return DecoderBatch(
            self.latents.paired[paired],
            _signed(self.latents.images[paired]),
            self.latents.sampled[sampled],
            _signed(self.latents.images[other]),
            streams,
        )


class Decoding(nn.Module):
    """The losses of the decoder and of its discriminator.

    L1, L2 and perceptual distance compare what is decoded from paired latents with their images. The hinge losses of
    the discriminator see all decoded images. The frozen networks are no part of the module, so that neither checkpoints
    nor modes reach them.
    """

    def __init__(
        self,
        vae: AutoencoderKL,
        section: Decoder,
        perceptual: PerceptualDistance,
        discriminator: ProjectedDiscriminator,
    ) -> None:
        super().__init__()
        assert vae.post_quant_conv is not None
        self.decoder, self.post_quant = vae.decoder.requires_grad_(True), vae.post_quant_conv.requires_grad_(True)
        self.adversary = discriminator
        self.section, self.scale, self.frozen = section, vae.config["scaling_factor"], [perceptual]

    def forward(self, batch: DecoderBatch, progress: float) -> dict[str, Tensor]:
        section, perceptual = self.section, self.frozen[0]
        latents = torch.cat([batch.paired, batch.sampled]) / self.scale
        decoded = at_least_float32(self.decoder(self.post_quant(latents)))
        paired = decoded[: len(batch)]
        offset = shift_of(batch.streams[0], decoded.shape[-1])
        made = perceptual.feature_maps(decoded.roll(offset, (2, 3)))
        with torch.no_grad():
            real = perceptual.feature_maps(torch.cat([batch.image, batch.other]).roll(offset, (2, 3)))
        fixed = {name: weight.detach() for name, weight in self.adversary.named_parameters()}
        logits = functional_call(self.adversary, fixed, (made,))
        pairs = zip(self.adversary(real), self.adversary([one.detach() for one in made]), strict=True)
        distance = F.l1_loss(paired, batch.image) + F.mse_loss(paired, batch.image)
        return {
            "pixels": section.pixel_weight * distance,
            "perceptual": section.perceptual_weight * perceptual(paired, batch.image),
            "adversarial": section.adversarial_weight * torch.stack([decoder_loss(one) for one in logits]).sum(),
            "discriminator": torch.stack([discriminator_loss(*pair) for pair in pairs]).sum(),
        }


def shift_of(stream: str, side: int) -> tuple[int, int]:
    """Return by how many pixels down and to the right the images of a batch are rolled before they are judged."""
    most = side // SHIFT
    down, right = torch.randint(-most, most + 1, (2,), generator=seeding.torch_rng(stream, "shift")).tolist()
    return down, right


def _signed(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1
