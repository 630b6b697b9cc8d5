"""Stable Diffusion 1.5 without its weights: the configurations of its parts, and its tokenizer."""

import gzip
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from pipeline.networks.stable_diffusion.families import Prediction
from pipeline.networks.stable_diffusion.model import DDIM

VOCABULARY = 49408  # 256 bytes, each alone and at a word's end, 48,894 merges, two special tokens
START, END = "<|startoftext|>", "<|endoftext|>"

UNET: Mapping[str, Any] = {
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,  # diffusers' name for the number of heads
}
VAE: Mapping[str, Any] = {
    "sample_size": 512,
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "scaling_factor": 0.18215,
}
TEXT: Mapping[str, Any] = {  # the text tower of CLIP ViT-L/14
    "vocab_size": VOCABULARY,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "projection_dim": 768,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
    "pad_token_id": VOCABULARY - 1,
}
SCHEDULE: Mapping[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
}


@dataclass(frozen=True)
class PartConfigs:
    """The configurations of the parts; by default those of SD 1.5."""

    unet: Mapping[str, Any] = field(default_factory=lambda: UNET)
    vae: Mapping[str, Any] = field(default_factory=lambda: VAE)
    text: Mapping[str, Any] = field(default_factory=lambda: TEXT)
    text_2: Mapping[str, Any] | None = None  # of the second text tower; only SDXL has one


def empty_unet(configs: PartConfigs) -> UNet2DConditionModel:
    """Build the U-Net on the meta device: names and shapes, no weights."""
    with torch.device("meta"):
        return UNet2DConditionModel(**configs.unet)


def empty_vae(configs: PartConfigs) -> AutoencoderKL:
    """Build the autoencoder on the meta device."""
    with torch.device("meta"):
        return AutoencoderKL(**configs.vae)


def empty_text_tower(configs: PartConfigs) -> CLIPTextModel:
    """Build the text tower on the meta device."""
    with torch.device("meta"):
        return CLIPTextModel(CLIPTextConfig(**configs.text))


def empty_second_tower(configs: PartConfigs) -> CLIPTextModelWithProjection | None:
    """Build the second text tower on the meta device; None where there is one tower only."""
    if configs.text_2 is None:
        return None
    with torch.device("meta"):
        return CLIPTextModelWithProjection(CLIPTextConfig(**configs.text_2))


def scheduler(prediction: Prediction = "epsilon") -> DDIMScheduler:
    """Return the noise schedule, which SD 2.1 and SDXL share; SD 1.5 and SDXL predict the noise."""
    return DDIMScheduler(**SCHEDULE, prediction_type=prediction, **DDIM)


def tokenizer(length: int = 77) -> CLIPTokenizer:
    """Build CLIP's tokenizer from the table of merges in the package open-clip-torch."""
    merges = _merges()
    letters = list(_byte_letters())
    entries = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    vocabulary = {entry: index for index, entry in enumerate(entries)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)  # pyright: ignore[reportArgumentType]


def _merges() -> list[tuple[str, str]]:
    path = Path(str(metadata.distribution("open-clip-torch").locate_file("open_clip/bpe_simple_vocab_16e6.txt.gz")))
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1:]  # the first line names the version
    pairs = (line.split() for line in lines[: VOCABULARY - 2 * 256 - 2])
    return [(left, right) for left, right in pairs]


def _byte_letters() -> tuple[str, ...]:
    """Return one printable letter per byte, printable bytes first (byte-level BPE, Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printable)
    return tuple(chr(code) for code in printable) + tuple(chr(256 + number) for number in range(others))
