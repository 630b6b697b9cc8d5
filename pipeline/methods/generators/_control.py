"""Shared parts of the controlled generators: parameters, network, hint, sampling, saved folder, training data."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.core import files
from pipeline.core.contracts import Hint, RealImages, Sampling
from pipeline.core.device import to_device
from pipeline.core.errors import UserError
from pipeline.data.loading import Pairs
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.membership import Denoiser
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.methods.generators._known_latents import KnownLatents, blend
from pipeline.methods.generators._sampling import (
    DenoisingNetworks,
    MaskImageDenoisingNetworks,
    Predictor,
    denoise,
    watching,
)
from pipeline.networks.stable_diffusion import lora
from pipeline.networks.stable_diffusion.acceleration import accelerate
from pipeline.networks.stable_diffusion.dense_hint_input import DenseHintInput
from pipeline.networks.stable_diffusion.latent_batches import LatentBatch, LatentBatches, sample_noise
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.poisson_batches import PoissonBatches
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder
from pipeline.stages.finetune.params import Finetune


def control_network(model: StableDiffusion, hint: str, start: float) -> ControlNetModel:
    """Build a ControlNet from a copy of the U-Net's encoder, with the stock ("sparse") or the dense hint input.

    `start` is the standard deviation of its zero convolutions' first weights. At 0, as in the papers, both they and the
    hint's last layer must leave zero before the hint has any effect, which short runs may not see.
    """
    width = model.unet.config["block_out_channels"][0]
    network = ControlNetModel.from_unet(model.unet, conditioning_embedding_out_channels=_stock_channels(model.factor))
    if hint == "dense":
        network.controlnet_cond_embedding = DenseHintInput(width, model.factor)
    else:
        assert isinstance(network.controlnet_cond_embedding, ControlNetConditioningEmbedding)
    for layer in [*network.controlnet_down_blocks, network.controlnet_mid_block] if start else []:
        nn.init.normal_(layer.weight, std=start)
    return network.requires_grad_(True).train()


def _stock_channels(factor: int) -> tuple[int, ...]:
    """Return one width per halving and one before: (16, 32, 96, 256) at factor 8."""
    return ((16, 32, 96) + (256,) * factor.bit_length())[: factor.bit_length()]


class ControlledDiffusion:
    """A base model with a ControlNet and a trained decoder; samples images that follow masks."""

    def __init__(
        self, model: StableDiffusion, spec: DatasetSpec, objective: nn.Module, network: ControlNetModel, hint: Hint
    ) -> None:
        self.model, self.spec, self.objective, self.network, self.hint = model, spec, objective, network, hint
        self.decoder = UNetDecoder(model.unet)

    def prepare(self, settings: Finetune) -> None:
        """Set the networks' switches for training, once, before `batches`. Raises UserError for unusable ones."""
        accelerate(self.model.unet, self.network, self.objective, settings)

    def batches(self, pairs: Pairs, settings: Finetune, seed: str) -> LatentBatches:
        """Return the training data of the objective; with `privacy` every pair is drawn by chance in every step."""
        kind = LatentBatches if settings.privacy is None else PoissonBatches
        return kind(self.model, pairs, settings.global_batch, seed, settings.flip, settings.prompt_dropout)

    @torch.no_grad()
    def sample(
        self,
        masks: Tensor,
        prompts: Sequence[str],
        rngs: Sequence[torch.Generator],
        settings: Sampling,
        sources: Sequence[NDArray[np.uint8] | None] = (),
        real: RealImages | None = None,
    ) -> Tensor:
        """Sample images [B, 3, H, W] in [0, 1] for label maps [B, H, W], from each image's own noise.

        Classifier-free guidance sees the hints in both branches; only the prompt differs. A weaker state of the same
        generator sees hints and prompt too. A hint is computed once per mask, and with an `image_weight` once per
        source. `real` images keep their latents and pixels outside their holes. Raises UserError where the networks
        cannot be compiled, or a hint needs the sources and there are none.
        """
        device, weaker = self.model.unet.device, settings.weaker
        assert weaker is None or isinstance(weaker, ControlledDiffusion)
        images = _images(sources, device)
        hints = [self.hint(masks.to(device), images)]
        if settings.image_weight is not None:
            hints.append(_required(images))
        embedded = [part for hint in hints for part in self.embed(hint)]
        with self.model.onload():
            size = masks.shape[-1]
            texts, guide = [self.model.embed(prompts, size)], None
            if weaker is not None:
                seen = [part for hint in hints for part in weaker.embed(hint)]
                guide = Predictor(weaker.networks(settings), (texts[0], seen))
            elif settings.guidance_scale > 1:
                texts.insert(0, self.model.embed(["" for _ in prompts], size))
            side = size // self.model.factor
            shape = (self.model.unet.config["in_channels"], side, side)
            conditions = torch.cat(texts), [torch.cat([part] * len(texts)) for part in embedded]
            known = None if real is None else KnownLatents.of(self.model, real)
            predict = Predictor(self.networks(settings), conditions)
            watch = watching(settings, self.model.schedule, self.model.images)

            def noise() -> Tensor:
                return noise_of(rngs, shape).to(device)

            drawn = self.model.images(denoise(predict, self.model.scheduler, noise, settings, known, watch, guide))
            return drawn if real is None else blend(drawn, real)

    @torch.no_grad()
    def denoiser(self, images: Tensor, masks: Tensor, prompts: Sequence[str]) -> Denoiser:
        """Return the networks under the masks' control and the prompts, for images [B, 3, H, W] in [0, 1].

        Latents are the means of the autoencoder's posterior. As in training, guidance is not used. If a method
        is trained with images as a second hint, only its mask branch predicts.
        """
        device, model = self.model.unet.device, self.model
        images, masks = images.to(device), masks.to(device)
        moments = model.moments(images)
        latents = at_least_float32(model.latents(moments, torch.zeros_like(moments.chunk(2, dim=1)[0])))
        conditions = model.embed(prompts, masks.shape[-1]), self.embed(self.hint(masks, images))
        predict = Predictor(self.networks(Sampling(steps=1, guidance_scale=1.0)), conditions)

        def predicted(noisy: Tensor, timestep: int) -> Tensor:
            return predict(noisy, timestep, False, False)[0]

        return Denoiser(model.schedule, latents, predicted, lambda: model.images(latents) - images)

    def embed(self, hints: Tensor) -> list[Tensor]:
        """Embed hints [B, 3, H, W] for the control network, before it sees the noisy latents."""
        return [self.network.controlnet_cond_embedding(hints)]

    def networks(self, settings: Sampling) -> DenoisingNetworks:
        """Return the networks of a denoising step."""
        parts, options = (self.model.unet, self.network, self.decoder), (settings.compile, settings.control_scale)
        if settings.image_weight is None:
            return DenoisingNetworks(*parts, *options)
        return MaskImageDenoisingNetworks(*parts, settings.image_weight, *options)

    def save(self, folder: Path) -> None:
        """Write ControlNet and decoder (the U-Net's trained half) as safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save_config(folder / "controlnet")
        for name, module in self._trained().items():
            weights = {key: value.contiguous() for key, value in lora.plain_state(module).items()}
            with files.replacing(folder / f"{name}.safetensors") as temporary:
                save_file(weights, temporary)

    def load(self, folder: Path) -> None:
        """Load what `save` wrote. Raises UserError where the folder belongs to another method or base."""
        for name, module in self._trained().items():
            path = folder / f"{name}.safetensors"
            try:
                module.load_state_dict(load_file(path))
            except (OSError, RuntimeError, SafetensorError) as error:
                raise UserError(f"{path} does not fit this generator and base: {error}") from error
        self.objective.eval()

    def _trained(self) -> dict[str, nn.Module]:
        return {"controlnet": self.network, "decoder": self.decoder}


def _images(sources: Sequence[NDArray[np.uint8] | None], device: torch.device) -> Tensor | None:
    """Stack images [B, 3, H, W] in [0, 1]; None where one is missing."""
    present = [source for source in sources if source is not None]
    complete = bool(present) and len(present) == len(sources)
    return torch.from_numpy(np.stack(present)).to(device).float() / 255 if complete else None


def _required(images: Tensor | None) -> Tensor:
    if images is None:
        raise UserError(
            "control: mask_image shows the generator the training image of each mask, but one of these masks belongs to"
            " no training image; use masks: real, or control: mask"
        )
    return images


def sample_noise_on_device(model: StableDiffusion, batch: LatentBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Sample latents, noise and timesteps of a batch, from each sample's own random stream on the CPU."""
    latents, noise, t = sample_noise(model, batch)
    return latents, noise, to_device(t, latents.device)
