"""Checks that a diffusers folder is shaped like Stable Diffusion 1.5 and complete; errors name what it is instead."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel

from pipeline.core import files
from pipeline.core.errors import UserError

PIPELINE = "StableDiffusionPipeline"
ADVICE = "name a Stable Diffusion 1.5 folder"


def check_model_kind(folder: Path) -> None:
    """Raise UserError for a folder of another kind of model, before its parts are searched."""
    for name in ("adapter_config.json", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"):
        if (folder / name).is_file():
            raise UserError(
                f"base.source: {folder} holds a LoRA, that is, small changes to a model and not a model; {ADVICE}"
            )
    if (folder / "text_encoder_2").is_dir():
        raise UserError(f"base.source: {folder} is Stable Diffusion XL (it has a second text tower); {ADVICE}")
    index = folder / "model_index.json"
    kind = _json(index).get("_class_name", PIPELINE) if index.is_file() else PIPELINE
    if kind != PIPELINE:
        raise UserError(f"base.source: {folder} is made for {kind}, not {PIPELINE}; {ADVICE}")


def check_configs(where: str, unet: Path, vae: Path, text: Path) -> None:
    """Compare the configurations of the parts with each other and with SD 1.5. Raises UserError."""
    reason = _reason(_json(unet), _json(vae), _json(text))
    if reason:
        raise UserError(f"base.source: {where} {reason}; {ADVICE}")


def _reason(unet: Mapping[str, Any], vae: Mapping[str, Any], text: Mapping[str, Any]) -> str | None:
    width, expected = unet.get("cross_attention_dim"), text.get("hidden_size")
    channels, latent = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if unet.get("addition_embed_type") or width == 2048:
        return "is Stable Diffusion XL, not 1.5"
    if unet.get("use_linear_projection") or width == 1024:
        return f"is Stable Diffusion 2, not 1.5 (cross-attention of width {width})"
    if width != expected:
        return f"is not SD 1.5-shaped: the U-Net attends to width {width}, but the text encoder has {expected}"
    if channels != latent:
        kind = "an inpainting model" if channels == 2 * latent + 1 else "a variant"
        return f"is {kind}: the U-Net takes {channels} channels, the autoencoder gives {latent}"
    return None


def check_weights(folder: Path) -> None:
    """Open all parts. Raises UserError where a weight is missing or has another shape."""
    for name, model in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL), ("text_encoder", CLIPTextModel)):
        try:
            info = _loading_info(model, folder / name)
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            first = str(error).strip().partition("\n")[0]
            raise UserError(
                f"base.source: the weights of {name} do not fit its configuration ({first}); {ADVICE}"
            ) from None
        faults = [*info["missing_keys"], *(str(fault[0]) for fault in info["mismatched_keys"])]
        if faults:
            names = ", ".join(sorted(faults)[:3])
            raise UserError(f"base.source: {name} lacks {len(faults)} of its weights ({names}, ...); {ADVICE}")


def _loading_info(model: Any, folder: Path) -> Mapping[str, Any]:
    return model.from_pretrained(folder, output_loading_info=True)[1]


def _json(path: Path) -> Mapping[str, Any]:
    try:
        return dict(files.read_json(path))
    except (ValueError, TypeError):
        raise UserError(f"base.source: {path} is not a JSON object; download it again") from None
