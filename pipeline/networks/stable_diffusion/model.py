"""A Stable-Diffusion-shaped base model: an ordinary diffusers folder, opened part by part."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.diffusion.schedule import Schedule

PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")


@dataclass(eq=False)
class StableDiffusion:
    """The parts of a base model, frozen and in evaluation mode.

    Autoencoder and text tower may be offloaded while the U-Net trains; the methods that need them load them again.
    """

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    folder: Path | None = None  # from which offloaded parts are read again; None: they stay in memory
    keep: Path | None = None  # where moments of images are kept for other runs; None: nowhere

    @classmethod
    def open(cls, folder: Path, keep: Path | None = None) -> "StableDiffusion":
        """Open a diffusers folder. Raises UserError naming the part that is missing or not shaped like SD 1.5."""
        missing = [part for part in PARTS if not (folder / part).is_dir()]
        if missing:
            raise UserError(
                f"{folder} is not a Stable Diffusion folder: {', '.join(missing)} is missing; run stage base"
            )
        files.check(folder)
        try:
            vae = AutoencoderKL.from_pretrained(folder / "vae")
            text_encoder = CLIPTextModel.from_pretrained(folder / "text_encoder")
            unet = UNet2DConditionModel.from_pretrained(folder / "unet")
            tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
            scheduler = cast(DDIMScheduler, DDIMScheduler.from_pretrained(folder / "scheduler", **DDIM))
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{folder} cannot be opened as Stable Diffusion ({reason}); download it again") from error
        _check_shape(folder, unet, vae, text_encoder)
        for part in (vae, text_encoder, unet):
            part.requires_grad_(False).eval()
        return cls(vae, text_encoder, tokenizer, unet, scheduler, folder, keep)

    @property
    def factor(self) -> int:
        """Pixels per latent along one side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @cached_property
    def schedule(self) -> Schedule:
        """The noise schedule with the base's own prediction type."""
        return Schedule(self.scheduler.alphas_cumprod, self.scheduler.config["prediction_type"])

    def to(self, device: torch.device) -> "StableDiffusion":
        """Move all parts."""
        for part in (self.vae, self.text_encoder, self.unet):
            if part.device.type != "meta":
                part.to(device)  # pyright: ignore[reportArgumentType]
        return self

    def offload(self) -> None:
        """Move autoencoder and text tower off the accelerator, and out of memory where a folder still has them."""
        place = torch.device("cpu" if self.folder is None else "meta")
        for part in (self.vae, self.text_encoder):
            part.to(place)  # pyright: ignore[reportArgumentType]

    @contextmanager
    def onload(self) -> Iterator[None]:
        """Within, autoencoder and text tower may be used; afterwards they are offloaded again if they were before."""
        offloaded = self.vae.device != self.unet.device
        try:
            yield
        finally:
            if offloaded:
                self.offload()

    @property
    def autoencoder(self) -> AutoencoderKL:
        """The autoencoder beside the U-Net, read again where it was offloaded."""
        if self.vae.device.type == "meta":
            self.vae = AutoencoderKL.from_pretrained(cast(Path, self.folder) / "vae").requires_grad_(False).eval()
        return self.vae.to(self.unet.device)  # pyright: ignore[reportReturnType, reportArgumentType]

    @property
    def text_tower(self) -> CLIPTextModel:
        """The text tower beside the U-Net, read again where it was offloaded."""
        if self.text_encoder.device.type == "meta":
            tower = CLIPTextModel.from_pretrained(cast(Path, self.folder) / "text_encoder")
            self.text_encoder = tower.requires_grad_(False).eval()
        return self.text_encoder.to(self.unet.device)  # pyright: ignore[reportReturnType, reportArgumentType]

    @torch.no_grad()
    def moments(self, image: Tensor) -> Tensor:
        """Return mean and log-variance [B, 2C, h, w] of the posterior of images [B, 3, H, W] in [0, 1]."""
        posterior: Any = self.autoencoder.encode(image.to(self.unet.device, self.vae.dtype) * 2 - 1)
        return posterior.latent_dist.parameters

    def latents(self, moments: Tensor, noise: Tensor) -> Tensor:
        """Sample the posterior, scaled to unit variance as the U-Net expects it."""
        mean, log_variance = moments.chunk(2, dim=1)
        spread = torch.exp(0.5 * log_variance.clamp(-30.0, 20.0))
        return (mean + spread * noise) * self.vae.config["scaling_factor"]

    @torch.no_grad()
    def images(self, latents: Tensor) -> Tensor:
        """Decode latents into images [B, 3, H, W] in [0, 1]."""
        decoded: Any = self.autoencoder.decode(latents / self.vae.config["scaling_factor"])
        return (decoded.sample.float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Return the last hidden states [B, L, D] of the text tower."""
        length = self.tokenizer.model_max_length
        tokens: Any = self.tokenizer(
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return self.text_tower(tokens.input_ids.to(self.unet.device))[0]


DDIM: dict[str, Any] = {
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}  # timesteps 1, 21, ..., 981 for 50 steps, the last step ends at abar_0


def _check_shape(folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL, text: nn.Module) -> None:
    width, expected = unet.config["cross_attention_dim"], text.config.hidden_size  # type: ignore[union-attr]
    if width != expected:
        raise UserError(
            f"{folder}: the U-Net attends to width {width}, but the text encoder has {expected}; this is not the"
            " shape of SD 1.5"
        )
    if unet.config["in_channels"] != vae.config["latent_channels"]:
        raise UserError(
            f"{folder}: the U-Net takes {unet.config['in_channels']} channels, but the autoencoder gives"
            f" {vae.config['latent_channels']}; an inpainting model or another variant cannot be a base"
        )
