"""Models and batches for the benchmarks of a training step: Stable Diffusion 1.5 and smaller ones of its shape."""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from pipeline.methods.generators import siamese
from pipeline.methods.generators._control import control_network
from pipeline.networks.stable_diffusion import sd15
from pipeline.networks.stable_diffusion.model import StableDiffusion

CLASSES = 2  # background and lesion


@dataclass(frozen=True)
class Size:
    """A model's configurations and the side of its images."""

    configs: sd15.PartConfigs
    pixels: int

    @property
    def latent(self) -> int:
        """Side of the latents."""
        return self.pixels // 2 ** (len(self.configs.vae["block_out_channels"]) - 1)


FULL = Size(sd15.PartConfigs(), 384)


def scaled(width: int, text_width: int, pixels: int) -> Size:
    """SD 1.5 with `width` in place of 320 channels, and all else in proportion."""
    vae = tuple(max(32, width * share // 5 // 32 * 32) for share in (2, 4, 8, 8))
    unet = {"block_out_channels": tuple(width * share for share in (1, 2, 4, 4)), "cross_attention_dim": text_width}
    text = {"hidden_size": text_width, "intermediate_size": 4 * text_width, "projection_dim": text_width}
    text |= {"num_attention_heads": text_width // 64}
    configs = sd15.PartConfigs({**sd15.UNET, **unet}, {**sd15.VAE, "block_out_channels": vae}, {**sd15.TEXT, **text})
    return Size(configs, pixels)


@dataclass(frozen=True)
class Material:
    """A base, the objective over it, and what one step takes."""

    model: StableDiffusion
    objective: siamese.SiameseObjective
    batch: dict[str, Tensor]


def build(size: Size, t: list[int], device: torch.device, **own: Any) -> Material:
    """Random weights (on the device meta: none) and one batch with the timesteps `t`."""
    torch.manual_seed(0)
    with device:
        vae = AutoencoderKL(**size.configs.vae).eval()
        tower = CLIPTextModel(CLIPTextConfig(**size.configs.text)).eval()
        unet = UNet2DConditionModel(**size.configs.unet).eval()
        for part in (vae, tower, unet):
            part.requires_grad_(False)
        tokenizer: Any = None  # the benchmarks give tokens and embeddings themselves
        model = StableDiffusion(vae, tower, tokenizer, unet, sd15.scheduler())
        params = siamese.Params(**own)
        objective = siamese.SiameseObjective(params, model, control_network(model, "dense", params.start), CLASSES)
        return Material(model, objective, _batch(size, t))


def _batch(size: Size, t: list[int]) -> dict[str, Tensor]:
    count, channels = len(t), size.configs.vae["latent_channels"]
    latents = torch.randn(2, count, channels, size.latent, size.latent)
    length, width = size.configs.text["max_position_embeddings"], size.configs.text["hidden_size"]
    mask = (torch.rand(count, 1, size.pixels, size.pixels) > 0.5).float().expand(-1, 3, -1, -1).contiguous()
    batch = {"latents": latents[0], "noise": latents[1], "mask": mask, "image": torch.rand_like(mask)}
    batch |= {"text": torch.randn(count, length, width), "t": torch.tensor(t, device="cpu")}
    return batch | {"tokens": torch.randint(size.configs.text["vocab_size"], (count, length))}
