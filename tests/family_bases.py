"""Untrained bases shaped like Stable Diffusion 2.1 and XL, as their repositories are laid out; factor 8, tiny."""

from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipeline.core import files
from pipeline.stages.base import tiny
from tests.official_configs import SD21, SDXL, Configs

SIZE = 64  # pixels of an image that fits these bases
Name = Literal["sd21", "sdxl"]
NAMES: tuple[Name, ...] = ("sd21", "sdxl")
SMALL_VAE: dict[str, Any] = {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
SMALL_TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "max_position_embeddings": tiny.TOKENS,
    "projection_dim": 16,
    "vocab_size": len(tiny.characters()),
}
SMALLER: dict[Name, tuple[Configs, Configs]] = {  # the official files, and what is smaller here
    "sd21": (
        SD21,
        {
            "unet": {"block_out_channels": [32, 32, 64, 64], "attention_head_dim": [2, 4, 8, 8], "layers_per_block": 1}
            | {"cross_attention_dim": 16, "sample_size": 8},
            "vae": SMALL_VAE,
            "text_encoder": SMALL_TEXT,
        },
    ),
    "sdxl": (
        SDXL,
        {
            "unet": {"block_out_channels": [32, 64, 64], "attention_head_dim": [2, 4, 8], "layers_per_block": 1}
            | {"cross_attention_dim": 40, "sample_size": 8, "transformer_layers_per_block": [1, 2, 3]}
            | {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 24 + 6 * 8},
            "vae": SMALL_VAE,
            "text_encoder": SMALL_TEXT,
            "text_encoder_2": SMALL_TEXT | {"hidden_size": 24, "projection_dim": 24, "num_attention_heads": 3},
        },
    ),
}


def tiny_configs(name: Name) -> Configs:
    """The official configurations with the small sizes in them."""
    official, smaller = SMALLER[name]
    return {part: config | smaller.get(part, {}) for part, config in official.items()}


def write_family_base(folder: Path, name: Name, **changes: dict[str, Any]) -> Path:
    """Writes configurations (`changes` by part), random weights and tokenizers, and returns the folder."""
    torch.manual_seed(0)
    configs = {part: config | changes.get(part, {}) for part, config in tiny_configs(name).items()}
    for part, config in configs.items():
        place = {"index": "model_index.json", "scheduler": "scheduler/scheduler_config.json"}
        files.write_json(folder / place.get(part, f"{part}/config.json"), config)
    for part, build in (("unet", UNet2DConditionModel), ("vae", AutoencoderKL)):
        _save(build.from_config(configs[part]), folder / part / "diffusion_pytorch_model.safetensors")  # pyright: ignore
    _save(CLIPTextModel(CLIPTextConfig(**configs["text_encoder"])), folder / "text_encoder" / "model.safetensors")
    tiny.tokenizer().save_pretrained(folder / "tokenizer")
    if "text_encoder_2" in configs:
        second = CLIPTextModelWithProjection(CLIPTextConfig(**configs["text_encoder_2"]))
        _save(second, folder / "text_encoder_2" / "model.safetensors")
        padded = CLIPTokenizer(vocab=tiny.characters(), merges=[], model_max_length=tiny.TOKENS, pad_token="!")  # pyright: ignore
        padded.save_pretrained(folder / "tokenizer_2")
    return folder


def _save(module: torch.nn.Module, path: Path) -> None:
    """Weights away from zero and one, under the names of 2023."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.02 * torch.randn_like(weight))
    names = {name: _old_name(name, module) for name in module.state_dict()}
    save_file({names[name]: value.contiguous() for name, value in module.state_dict().items()}, path)


def _old_name(name: str, module: torch.nn.Module) -> str:
    plain = not isinstance(module, CLIPTextModel) or name.startswith("text_model.")
    return name if plain else f"text_model.{name}"
