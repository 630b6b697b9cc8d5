"""Segmentation-guided diffusion (Konz, Chen, Dong and Mazurowski, MICCAI 2024): a diffusion model of pixels.

The network is diffusers' UNet2DModel without a text tower or an autoencoder. It is trained from nothing, so no base
model is used. The mask is one further channel of its input in every denoising step. In training, each class is left out
of a sample's mask at random, so that images can also be drawn for masks in which classes are missing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DModel
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core import files, seeding
from pipeline.core.contracts import Batch, RealImages, Sampling
from pipeline.core.device import to_device
from pipeline.core.errors import UserError
from pipeline.data.loading import Batches, Pairs, flip
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion.membership import Denoiser
from pipeline.diffusion.schedule import Schedule, at_least_float32, noise_of
from pipeline.methods.generators._known_latents import KnownLatents, blend
from pipeline.methods.generators._sampling import called, denoise, watching
from pipeline.methods.generators._seg_guided_params import Params
from pipeline.networks.stable_diffusion.acceleration import prepare_network
from pipeline.stages.finetune.params import Finetune

VERSION = 1  # raised when results change
FOLDER, WEIGHTS = "unet", "diffusion_pytorch_model.safetensors"  # as diffusers names them


def build(params: Params, base: None, spec: DatasetSpec) -> "SegGuidedDiffusion":
    """Build the generator with new weights. Raises UserError where the images cannot be halved often enough."""
    factor = 2 ** (len(params.channels) - 1)
    if spec.size % factor:
        raise UserError(
            f"seg_guided has {len(params.channels)} levels (channels), which need a data.size that is a multiple of"
            f" {factor}, found {spec.size}; name fewer channels, or another size"
        )
    return SegGuidedDiffusion(SegGuidedObjective(params, unet(params, spec), spec.num_classes), spec)


def unet(params: Params, spec: DatasetSpec) -> UNet2DModel:
    """Build the network: colours and the mask's channel in, the noise of the colours out."""
    levels = len(params.channels)
    down = ["DownBlock2D"] * levels
    down[-2] = "AttnDownBlock2D"
    up = [name.replace("Down", "Up") for name in reversed(down)]
    blocks: dict[str, Any] = {  # diffusers types them as tuples of four
        "down_block_types": tuple(down),
        "up_block_types": tuple(up),
        "block_out_channels": params.channels,
    }
    sizes = {"sample_size": spec.size, "in_channels": spec.channels + 1, "out_channels": spec.channels}
    return UNet2DModel(layers_per_block=params.layers, **sizes, **blocks)


def without_classes(masks: Tensor, kept: Tensor) -> Tensor:
    """Return label maps [B, H, W] in which the classes that are not kept ([B, K - 1] bool) are background."""
    numbers = torch.arange(1, kept.shape[1] + 1, device=masks.device) * kept
    table = torch.cat([torch.zeros_like(numbers[:, :1]), numbers], dim=1)
    return table.gather(1, masks.flatten(1)).view_as(masks)


def with_mask(noisy: Tensor, masks: Tensor, divisor: float) -> Tensor:
    """Return the network's input [B, C + 1, H, W]: noised images [B, C, H, W], then label maps [B, H, W] / divisor."""
    return torch.cat([noisy, masks[:, None].to(noisy.dtype) / divisor], dim=1)


class SegGuidedObjective(nn.Module):
    """Mean squared error of the predicted noise under the ablated mask (Konz et al. 2024, algorithm 1).

    The classes that are left out are drawn for every sample; in the public code, for a whole batch at a time.
    """

    def __init__(self, params: Params, network: UNet2DModel, num_classes: int) -> None:
        super().__init__()
        self.params, self.network, self.num_classes = params, network, num_classes
        # Linear betas from 1e-4 to 0.02, as in the public code.
        self.scheduler = DDIMScheduler(num_train_timesteps=1000)
        self.schedule = Schedule(self.scheduler.alphas_cumprod, "epsilon")

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
        t = torch.cat([torch.randint(len(self.schedule), (1,), generator=rng) for rng in rngs])
        removed = torch.stack([torch.rand(self.num_classes - 1, generator=rng) for rng in rngs]) < self.params.ablation
        noise = noise_of(rngs, batch.image.shape[1:])
        noise, t, kept = (to_device(part, batch.image.device) for part in (noise, t, ~removed))
        return self.losses(batch.image * 2 - 1, batch.mask, noise, t, kept)

    def losses(self, images: Tensor, masks: Tensor, noise: Tensor, t: Tensor, kept: Tensor) -> dict[str, Tensor]:
        """Return the named loss; `images` are [B, C, H, W] in [-1, 1], `masks` [B, H, W], `kept` [B, K - 1] bool."""
        noisy = self.schedule.q_sample(images, noise, t)
        seen = with_mask(noisy, without_classes(masks, kept), self.params.mask_divisor)
        return {"mask": F.mse_loss(at_least_float32(self.network(seen, t).sample), noise)}


class SegGuidedDiffusion:
    """Samples images that follow masks, in pixels. Prompts are not seen, so there is no guidance without a prompt."""

    def __init__(self, objective: SegGuidedObjective, spec: DatasetSpec) -> None:
        self.objective, self.spec, self.network = objective, spec, objective.network

    def prepare(self, settings: Finetune) -> None:
        """Set the network's switches for training, once, before `batches`; LoRA does not affect it.

        Raises UserError for switches that cannot be used here.
        """
        prepare_network(self.network, settings)

    def batches(self, pairs: Pairs, settings: Finetune, seed: str) -> Batches:
        """Return the training data of the objective."""
        return Batches(pairs, settings.global_batch, seed, flip if settings.flip else None)

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
        """Sample images [B, C, H, W] in [0, 1] for label maps [B, H, W], from each image's own noise.

        Neither `prompts`, `sources` nor the scale of guidance by a prompt have an effect; a weaker state of the same
        generator guides as elsewhere. `real` images keep their pixels outside their holes. Raises UserError where the
        network cannot be compiled.
        """
        device, weaker = self.network.device, settings.weaker
        assert weaker is None or isinstance(weaker, SegGuidedDiffusion)
        masks = masks.to(device)
        shape = (self.spec.channels, *masks.shape[1:])
        guide = None if weaker is None else weaker.predictor(masks, settings)
        known, schedule = None if real is None else self._known(real), self.objective.schedule
        predict, watch = self.predictor(masks, settings), watching(settings, schedule, to_unit_range)

        def noise() -> Tensor:
            return noise_of(rngs, shape).to(device)

        drawn = to_unit_range(denoise(predict, self.objective.scheduler, noise, settings, known, watch, guide))
        return drawn if real is None else blend(drawn, real)

    @torch.no_grad()
    def denoiser(self, images: Tensor, masks: Tensor, prompts: Sequence[str]) -> Denoiser:
        """Return the network under the whole masks [B, H, W], for images [B, C, H, W] in [0, 1]; no prompt is seen."""
        device = self.network.device
        predict = self.predictor(masks.to(device), Sampling(steps=1, guidance_scale=1.0))

        def predicted(noisy: Tensor, timestep: int) -> Tensor:
            return predict(noisy, timestep, False, False)[0]

        return Denoiser(self.objective.schedule, images.to(device) * 2 - 1, predicted)

    def predictor(self, masks: Tensor, settings: Sampling) -> "PixelPredictor":
        """Return what predicts the noise of images that follow the masks [B, H, W]."""
        return PixelPredictor(self.network, masks, self.objective.params.mask_divisor, settings.compile)

    def _known(self, real: RealImages) -> KnownLatents:
        """Return the pixels that are kept, in place of latents."""
        device = self.network.device
        pixels = torch.from_numpy(real.images).to(device).float() / 255 * 2 - 1
        holes = torch.from_numpy(real.holes).to(device)[:, None]
        return KnownLatents(pixels, holes, self.objective.schedule, real.strength)

    def save(self, folder: Path) -> None:
        """Write the network as a folder of diffusers, which the public code reads too."""
        self.network.save_config(folder / FOLDER)
        weights = {key: value.contiguous() for key, value in self.network.state_dict().items()}
        with files.replacing(folder / FOLDER / WEIGHTS) as temporary:
            save_file(weights, temporary, {"format": "pt"})

    def load(self, folder: Path) -> None:
        """Load what `save` wrote. Raises UserError where the folder belongs to another method or network."""
        path = folder / FOLDER / WEIGHTS
        try:
            self.network.load_state_dict(load_file(path))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise UserError(f"{path} does not fit this generator: {error}") from error
        self.objective.eval()


class PixelPredictor:
    """What the network predicts under fixed masks [B, H, W]."""

    def __init__(self, network: UNet2DModel, masks: Tensor, divisor: float, compiled: bool) -> None:
        self.network, self.masks, self.divisor, self.compiled = network, masks, divisor, compiled

    def __call__(self, noisy: Tensor, timestep: int, reuse: bool, guided: bool) -> tuple[Tensor, None]:
        """Predict the noise [B, C, H, W]; there is no branch without a prompt, and no part is reused."""
        times = torch.full((len(noisy),), timestep, device=noisy.device)
        seen = with_mask(noisy, self.masks, self.divisor)
        return at_least_float32(called(predict_noise, self.compiled, self.network, seen, times)), None


def predict_noise(network: UNet2DModel, seen: Tensor, times: Tensor) -> Tensor:
    """Predict the noise [B, C, H, W] of an input [B, C + 1, H, W] at timesteps [B]."""
    return network(seen, times).sample


def to_unit_range(images: Tensor) -> Tensor:
    """Return images in [-1, 1] as images in [0, 1]; what lies outside is cut off."""
    return (images.float() / 2 + 0.5).clamp(0, 1)
