"""A Stable-Diffusion-shaped base model: an ordinary diffusers folder, opened part by part."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.diffusion.schedule import Schedule
from pipeline.networks.stable_diffusion.model_index import index_path
from pipeline.networks.stable_diffusion.text_towers import SecondTower, embed_in_two, token_ids

PARTS = ("vae", "text_encoder", "tokenizer", "unet", "scheduler")


@dataclass(eq=False)
class StableDiffusion:
    """The parts of a base model, frozen and in evaluation mode.

    Autoencoder and text towers may be offloaded while the U-Net trains; the methods that need them load them again.
    """

    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    tokenizer: CLIPTokenizer
    unet: UNet2DConditionModel
    scheduler: DDIMScheduler
    folder: Path | None = None  # from which offloaded parts are read again; None: they stay in memory
    keep: Path | None = None  # where moments of images are kept for other runs; None: nowhere
    second: SecondTower | None = None  # of Stable Diffusion XL

    @classmethod
    def open(cls, folder: Path, keep: Path | None = None) -> "StableDiffusion":
        """Open a diffusers folder. Raises UserError naming the part that is missing or does not fit the others."""
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
            second = _second_tower(folder)
        except OSError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"{folder} cannot be opened as Stable Diffusion ({reason}); download it again") from error
        _check_shape(folder, unet, vae, text_encoder, second)
        model = cls(vae, text_encoder, tokenizer, unet, scheduler, folder, keep, second)
        for part in (*model.helpers, unet):
            part.requires_grad_(False).eval()
        return model

    @property
    def helpers(self) -> list[Any]:
        """The networks that no method trains and that may be offloaded: autoencoder and text towers."""
        second = [] if self.second is None else [self.second.text_encoder]
        return [self.vae, self.text_encoder, *second]

    @property
    def factor(self) -> int:
        """Pixels per latent along one side."""
        return 2 ** (len(self.vae.config["block_out_channels"]) - 1)

    @cached_property
    def schedule(self) -> Schedule:
        """The noise schedule with the base's own prediction type."""
        return Schedule(self.scheduler.alphas_cumprod, self.scheduler.config["prediction_type"])

    @property
    def text_shape(self) -> tuple[int, int]:
        """Rows and width [L, D] of an embedded prompt."""
        rows = self.text_encoder.config.max_position_embeddings + (self.second is not None)
        return rows, self.unet.config["cross_attention_dim"]

    def to(self, device: torch.device) -> "StableDiffusion":
        """Move all parts."""
        parts: list[Any] = [*self.helpers, self.unet]
        for part in parts:
            if part.device.type != "meta":
                part.to(device)
        return self

    def offload(self) -> None:
        """Move autoencoder and text towers off the accelerator, and out of memory where a folder still has them."""
        place = torch.device("cpu" if self.folder is None else "meta")
        for part in self.helpers:
            part.to(place)

    @contextmanager
    def onload(self) -> Iterator[None]:
        """Within, autoencoder and text towers may be used; afterwards they are offloaded again if they were before."""
        offloaded = self.vae.device != self.unet.device
        try:
            yield
        finally:
            if offloaded:
                self.offload()

    @property
    def autoencoder(self) -> AutoencoderKL:
        """The autoencoder beside the U-Net, read again where it was offloaded."""
        if self.vae.device.type == "meta" and self.folder is not None:
            self.vae = AutoencoderKL.from_pretrained(self.folder / "vae").requires_grad_(False).eval()
        return self.vae.to(self.unet.device)  # pyright: ignore[reportReturnType, reportArgumentType]

    @property
    def text_tower(self) -> CLIPTextModel:
        """The text tower beside the U-Net, read again where it was offloaded."""
        if self.text_encoder.device.type == "meta":
            tower = CLIPTextModel.from_pretrained(cast(Path, self.folder) / "text_encoder")
            self.text_encoder = tower.requires_grad_(False).eval()
        return self.text_encoder.to(self.unet.device)  # pyright: ignore[reportReturnType, reportArgumentType]

    def _second_text_tower(self, second: SecondTower) -> CLIPTextModelWithProjection:
        if second.text_encoder.device.type == "meta":
            tower = CLIPTextModelWithProjection.from_pretrained(cast(Path, self.folder) / "text_encoder_2")
            second.text_encoder = tower.requires_grad_(False).eval()
        return second.text_encoder.to(self.unet.device)  # pyright: ignore[reportReturnType, reportArgumentType]

    def _exactly(self) -> AbstractContextManager[Any]:
        """Within, the autoencoder of SDXL computes in float32, whatever autocast is on: half precision overflows in it.

        An autoencoder that was mended for half precision says so in its configuration (`force_upcast` false).
        """
        if self.second is None or not self.vae.config["force_upcast"]:
            return nullcontext()
        return torch.autocast(self.unet.device.type, enabled=False)

    @torch.no_grad()
    def moments(self, image: Tensor) -> Tensor:
        """Return mean and log-variance [B, 2C, h, w] of the posterior of images [B, 3, H, W] in [0, 1]."""
        with self._exactly():
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
        with self._exactly():
            decoded: Any = self.autoencoder.decode(latents / self.vae.config["scaling_factor"])
        return (decoded.sample.float() / 2 + 0.5).clamp(0, 1)

    @torch.no_grad()
    def embed(self, prompts: Sequence[str], size: int | None = None) -> Tensor:
        """Return prompts as the U-Net sees them, [B, L, D] with (L, D) `text_shape`.

        These are the last hidden states of the text tower; of Stable Diffusion XL, what `embed_in_two` returns for
        images of `size` pixels. Raises ValueError where the model needs a size and there is none.
        """
        device, second = self.unet.device, self.second
        tokens = token_ids(self.tokenizer, prompts, device)
        if second is None:
            return self.text_tower(tokens)[0]
        if size is None:
            raise ValueError("Stable Diffusion XL is conditioned on the size of the images; give `size`")
        shown = torch.tensor([bool(prompt) for prompt in prompts], device=device) if second.zeros_for_empty else None
        both = tokens, token_ids(second.tokenizer, prompts, device)
        return embed_in_two(self.text_tower, self._second_text_tower(second), both, shown, size)


DDIM: dict[str, Any] = {
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "timestep_spacing": "leading",
}  # timesteps 1, 21, ..., 981 for 50 steps, the last step ends at abar_0


def _second_tower(folder: Path) -> SecondTower | None:
    """Open the second text tower of a folder of Stable Diffusion XL; None where there is none."""
    if not (folder / "text_encoder_2").is_dir():
        return None
    index = files.read_json(index_path(folder)) if index_path(folder).is_file() else {}
    return SecondTower(
        CLIPTextModelWithProjection.from_pretrained(folder / "text_encoder_2"),
        CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        bool(index.get("force_zeros_for_empty_prompt", True)),
    )


def _check_shape(
    folder: Path, unet: UNet2DConditionModel, vae: AutoencoderKL, text: CLIPTextModel, second: SecondTower | None
) -> None:
    width, expected = unet.config["cross_attention_dim"], int(text.config.hidden_size or 0)
    if second is not None:
        expected += int(second.text_encoder.config.hidden_size or 0)
    if width != expected:
        towers = "encoder has" if second is None else "encoders together have"
        raise UserError(
            f"{folder}: the U-Net attends to width {width}, but the text {towers} {expected}; the parts belong to"
            " different models"
        )
    if unet.config["in_channels"] != vae.config["latent_channels"]:
        raise UserError(
            f"{folder}: the U-Net takes {unet.config['in_channels']} channels, but the autoencoder gives"
            f" {vae.config['latent_channels']}; an inpainting model or another variant cannot be a base"
        )
