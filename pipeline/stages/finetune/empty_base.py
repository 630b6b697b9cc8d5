"""A base on the meta device: shapes of all parts and no weights, to count parameters, arithmetic and memory."""

from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from pipeline.networks.stable_diffusion import sd15
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Base


def empty_base(base: Base, size: int) -> StableDiffusion:
    """Build the base of a study with images of `size` pixels: small, of a local folder's shapes, or of SD 1.5's."""
    with torch.device("meta"):
        parts = _from_scratch(base, size) if base.source == "scratch" else _existing(Path(base.source))
    for part in parts:
        part.requires_grad_(False).eval()
    vae, text_encoder, unet = parts
    scheduler = tiny.scheduler(base.denoiser.prediction) if base.denoiser else sd15.scheduler()
    return StableDiffusion(vae, text_encoder, cast(Any, None), unet, scheduler)  # no prompt is read


def _from_scratch(base: Base, size: int) -> tuple[AutoencoderKL, CLIPTextModel, UNet2DConditionModel]:
    assert base.autoencoder and base.denoiser  # Base has checked it
    side = size // 2 ** (len(base.autoencoder.channels) - 1)
    unet = tiny.denoiser(base.denoiser, base.autoencoder.latent_channels, side)
    return tiny.autoencoder(base.autoencoder, size), tiny.text_tower(base.denoiser.text_width), unet


def _existing(source: Path) -> tuple[AutoencoderKL, CLIPTextModel, UNet2DConditionModel]:
    """Build the parts of a folder; a hub id or a single file is taken for SD 1.5; stage base refuses others."""
    if not (source / "unet" / "config.json").is_file():
        sizes = sd15.PartConfigs()
        return sd15.empty_vae(sizes), sd15.empty_text_tower(sizes), sd15.empty_unet(sizes)
    configs: list[Any] = [AutoencoderKL.load_config(source / "vae"), UNet2DConditionModel.load_config(source / "unet")]
    vae: Any = AutoencoderKL.from_config(configs[0])
    unet: Any = UNet2DConditionModel.from_config(configs[1])
    return vae, CLIPTextModel(CLIPTextConfig.from_pretrained(source / "text_encoder")), unet
