"""A Stable-Diffusion-shaped base model: an ordinary diffusers folder, opened part by part."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipeline.diffusion.schedule import Schedule
from pipeline.errors import UserError

PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")


@dataclass(frozen=True)
class StableDiffusion:
    """The parts of a base model, frozen and in evaluation mode."""

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler

    @classmethod
    def open(cls, folder: Path) -> "StableDiffusion":
        """Opens a diffusers folder. Raises UserError naming the part that is missing or not shaped like SD 1.5."""
        missing = [part for part in PARTS if not (folder / part).is_dir()]
        if missing:
            raise UserError(f"{folder} is no Stable Diffusion folder: {', '.join(missing)} is missing; run stage base")
        try:
            vae = AutoencoderKL.from_pretrained(folder / "vae")
            text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
            unet = UNet2DConditionModel.from_pretrained(folder / "unet")
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
            scheduler = cast(DDIMScheduler, DDIMScheduler.from_pretrained(folder / "scheduler", **DDIM))
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{folder} cannot be opened as Stable Diffusion ({reason}); fetch it again") from error
        _check_shape(folder, unet, vae, text_encoder)
        for part in (vae, text_encoder, unet):
            part.requires_grad_(False).eval()
        return cls(vae, text_encoder, tokenizer, unet, scheduler)

    @property
    def factor(self) -> int:
        """Pixels per latent along one side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @property
    def schedule(self) -> Schedule:
        """The noise schedule with the base's own prediction type."""
        return Schedule(self.scheduler.alphas_cumprod, self.scheduler.config["prediction_type"])

    def to(self, device: torch.device) -> "StableDiffusion":
        """Moves all parts."""
        for part in (self.vae, self.text_encoder, self.unet):
            part.to(device)  # pyright: ignore[reportArgumentType]
        return self

    @torch.no_grad()
    def moments(self, image: Tensor) -> Tensor:
        """Mean and log-variance [B, 2C, h, w] of the posterior of images [B, 3, H, W] in [0, 1]."""
        posterior: Any = self.vae.encode(image.to(self.vae.device) * 2 - 1)
        return posterior.latent_dist.parameters

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        """A sample of the posterior, scaled to unit variance as the U-Net expects it."""
        mean, log_variance = moments.chunk(2, dim=1)
        spread = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
        return (mean + spread * noise) * self.vae.config["scaling_factor"]

    @torch.no_grad()
    def images(self, latents: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] of latents."""
        decoded: Any = self.vae.decode(latents / self.vae.config["scaling_factor"])
        return (decoded.sample.float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Last hidden states [B, L, D] of the text tower."""
        length = self.tokenizer.model_max_length
        tokens: Any = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device))[0]


DDIM: dict[str, Any] = {
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}  # timesteps 1, 21, ..., 981 for 50 steps, the last step ends at abar_0


def _check_shape(folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL, text: nn.Module) -> None:
    found, wanted = unet.config["cross_attention_dim"], text.config.hidden_size  # type: ignore[union-attr]
    if found != wanted:
        raise UserError(f"{folder}: the U-Net attends to width {found}, the text tower has {wanted}; not SD 1.5-shaped")
    if unet.config["in_channels"] != vae.config["latent_channels"]:
        raise UserError(
            f"{folder}: the U-Net takes {unet.config['in_channels']} channels, the autoencoder gives"
            f" {vae.config['latent_channels']}; an inpainting or other variant is not a base"
        )
