"""A base on the meta device: shapes of all parts and no weights, to count parameters, arithmetic and memory."""

from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from pipeline.networks.stable_diffusion import families, sd15, sd21, sdxl
from pipeline.networks.stable_diffusion.families import Family
from pipeline.networks.stable_diffusion.model import DDIM, StableDiffusion
from pipeline.networks.stable_diffusion.sd15 import PartConfigs
from pipeline.networks.stable_diffusion.text_towers import SecondTower
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Base

CONFIGS: dict[Family, PartConfigs] = {
    families.SD1: PartConfigs(),
    families.SD2: sd21.CONFIGS,
    families.SDXL: sdxl.CONFIGS,
}
NO_TOKENIZER = cast(Any, None)  # no prompt is read


def empty_base(base: Base, size: int) -> StableDiffusion:
    """Build the base of a study with images of `size` pixels, without weights.

    It is a small one, or has the shapes of a local folder or of the family of a hub id.
    """
    with torch.device("meta"):
        if base.source == "scratch":
            model = _from_scratch(base, size)
        elif (Path(base.source) / "unet" / "config.json").is_file():
            model = _of_folder(Path(base.source))
        else:
            model = _of_family(base.source)
    for part in (*model.helpers, model.unet):
        part.requires_grad_(False).eval()
    return model


def _from_scratch(base: Base, size: int) -> StableDiffusion:
    assert base.autoencoder and base.denoiser  # Base has checked it
    side = size // 2 ** (len(base.autoencoder.channels) - 1)
    unet = tiny.denoiser(base.denoiser, base.autoencoder.latent_channels, side)
    vae, text = tiny.autoencoder(base.autoencoder, size), tiny.text_tower(base.denoiser.text_width)
    return StableDiffusion(vae, text, NO_TOKENIZER, unet, tiny.scheduler(base.denoiser.prediction))


def _of_folder(source: Path) -> StableDiffusion:
    configs: list[Any] = [AutoencoderKL.load_config(source / "vae"), UNet2DConditionModel.load_config(source / "unet")]
    vae: Any = AutoencoderKL.from_config(configs[0])
    unet: Any = UNet2DConditionModel.from_config(configs[1])
    text, second = CLIPTextModel(CLIPTextConfig.from_pretrained(source / "text_encoder")), None
    if (source / "text_encoder_2").is_dir():
        config = CLIPTextConfig.from_pretrained(source / "text_encoder_2")
        second = SecondTower(CLIPTextModelWithProjection(config), NO_TOKENIZER)
    scheduler: Any = DDIMScheduler.from_pretrained(source / "scheduler", **DDIM)
    return StableDiffusion(vae, text, NO_TOKENIZER, unet, scheduler, second=second)


def _of_family(source: str) -> StableDiffusion:
    """Build the parts of a hub id; an unknown id and a single file are taken for SD 1.5. Stage base checks them."""
    known = families.published(source)
    configs = CONFIGS[known.family]
    tower = sd15.empty_second_tower(configs)
    second = None if tower is None else SecondTower(tower, NO_TOKENIZER)
    parts = sd15.empty_vae(configs), sd15.empty_text_tower(configs), NO_TOKENIZER, sd15.empty_unet(configs)
    return StableDiffusion(*parts, sd15.scheduler(known.prediction), second=second)
