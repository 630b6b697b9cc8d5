"""An untrained base of the smallest size, as an ordinary diffusers folder; factor 2."""

from pathlib import Path

import torch

from pipeline.core import files
from pipeline.networks.stable_diffusion.model_index import MODEL_INDEX, index_path
from pipeline.stages.base import tiny
from pipeline.stages.base.params import Autoencoder, Denoiser

RATES = {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-3}


def write_tiny_base(folder: Path, prediction: str) -> Path:
    """Writes all parts with random weights and returns the folder."""
    torch.manual_seed(0)
    tiny.autoencoder(Autoencoder(channels=(16, 16), crop=8, **RATES), 16).save_pretrained(folder / "vae")
    tiny.denoiser(Denoiser(channels=(32, 32), text_width=16, **RATES), 4, 8).save_pretrained(folder / "unet")
    tiny.text_tower(16).save_pretrained(folder / "text_encoder")
    tiny.tokenizer().save_pretrained(folder / "tokenizer")
    tiny.scheduler(prediction).save_pretrained(folder / "scheduler")
    files.write_json(index_path(folder), MODEL_INDEX)
    return folder
