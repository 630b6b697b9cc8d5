"""Checks that a diffusers folder is a Stable Diffusion 1, 2 or XL and complete; errors name what it is instead."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from pipeline.core import files
from pipeline.core.errors import UserError
from pipeline.networks.stable_diffusion import families
from pipeline.networks.stable_diffusion.families import SDXL, Family

ADVICE = "name a diffusers folder of Stable Diffusion 1, 2 or XL"
MODELS: dict[str, Any] = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "text_encoder": CLIPTextModel,
    "text_encoder_2": CLIPTextModelWithProjection,
}


def check_model_kind(folder: Path) -> None:
    """Raise UserError for a folder of another kind of model, before its parts are searched."""
    for name in ("adapter_config.json", "pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"):
        if (folder / name).is_file():
            raise UserError(
                f"base.source: {folder} holds a LoRA, that is, small changes to a model and not a model; {ADVICE}"
            )
    index = folder / "model_index.json"
    if index.is_file():
        families.family_of_pipeline(str(folder), _json(index))


def check_configs(where: str, configs: Mapping[str, Path]) -> Family:
    """Compare the configurations of the parts with each other and return the family. Raises UserError.

    `configs` are the files of the U-Net, autoencoder, scheduler and text towers, by part.
    """
    parts = {part: _json(path) for part, path in configs.items()}
    family = families.family_of_unet(parts["unet"])
    reason = _reason(parts, family)
    if reason:
        raise UserError(f"base.source: {where} {reason}; {ADVICE}")
    return family


def prediction_of(scheduler: Path) -> str:
    """Return what the U-Net of a base predicts, by the configuration of its scheduler."""
    return str(_json(scheduler).get("prediction_type", "epsilon"))


def _reason(parts: Mapping[str, Mapping[str, Any]], family: Family) -> str | None:
    """Return why parts cannot be a base; None where they can."""
    unet, towers = parts["unet"], [parts[name] for name in ("text_encoder", "text_encoder_2") if name in parts]
    width, expected = unet.get("cross_attention_dim"), sum(int(tower.get("hidden_size", 0)) for tower in towers)
    channels, latent = unet.get("in_channels", 4), parts["vae"].get("latent_channels", 4)
    prediction = parts["scheduler"].get("prediction_type", "epsilon")
    if (family == SDXL) != (len(towers) == 2):
        found = "a U-Net of Stable Diffusion XL" if family == SDXL else "no U-Net of Stable Diffusion XL"
        return f"has {found}, but {len(towers)} text tower{'s' if len(towers) > 1 else ''}"
    if width != expected:
        whose = "text encoder has" if len(towers) == 1 else "text encoders together have"
        return f"does not fit together: the U-Net attends to width {width}, but the {whose} {expected}"
    if family == SDXL and not _adds_what_is_known(unet, towers[1]):
        return "conditions its U-Net on other numbers than Stable Diffusion XL's base (as its refiner does)"
    if channels != latent:
        kind = "an inpainting model" if channels == 2 * latent + 1 else "a variant"
        return f"is {kind}: the U-Net takes {channels} channels, the autoencoder gives {latent}"
    if prediction not in families.PREDICTIONS:
        return f"predicts {prediction}, which is none of {', '.join(families.PREDICTIONS)}"
    return None


def _adds_what_is_known(unet: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Return whether a U-Net adds the pooled prompt and six sizes to the timestep, and they fit one row of a prompt."""
    pooled, numbers = int(second.get("projection_dim", 512)), families.TIME_NUMBERS
    width = pooled + numbers * int(unet.get("addition_time_embed_dim") or 0)
    fits = pooled + numbers <= int(unet.get("cross_attention_dim", 0))
    expected = ("text_time", width)
    return fits and (unet["addition_embed_type"], unet.get("projection_class_embeddings_input_dim")) == expected


def check_weights(folder: Path) -> None:
    """Open all parts. Raises UserError where a weight is missing or has another shape."""
    for name, model in MODELS.items():
        if not (folder / name).is_dir():  # check_configs has counted the text towers
            continue
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
