"""Pretraining of a small base model on a study's images: autoencoder, denoiser and, where asked for, decoder."""

from pathlib import Path
from typing import Any

from pipeline.core import files, seeding, tables
from pipeline.core.runtime import Runtime
from pipeline.data.loading import Pairs
from pipeline.networks import packaged_efficientnet as packaged
from pipeline.networks.stable_diffusion.model_index import MODEL_INDEX, index_path
from pipeline.stages.base import tiny
from pipeline.stages.base.autoencoder import train_autoencoder
from pipeline.stages.base.decoder import train_decoder
from pipeline.stages.base.denoiser import train_denoiser
from pipeline.stages.base.params import Base, Denoiser
from pipeline.training.callbacks import LossRow


def pretrain(base: Base, size: int, seed: int, pairs: Pairs, runtime: Runtime, work: Path) -> dict[str, Any]:
    """Train a small base on images of `size` pixels (their masks are not used) and write it to work/base.

    Returns what the manifest records of it beside its parameters: the weights of the perceptual network, if it has
    seen one.
    """
    assert base.autoencoder and base.denoiser  # Base has checked it
    folder = work / "base"
    vae, losses = train_autoencoder(base.autoencoder, base.precision, pairs, seed, runtime, work / "autoencoder")
    _save_losses(folder, "autoencoder", losses)
    _save_text_tower(base.denoiser, seed, folder)
    vae.save_pretrained(folder / "vae")
    tiny.scheduler(base.denoiser.prediction).save_pretrained(folder / "scheduler")
    latent_size = size // 2 ** (len(base.autoencoder.channels) - 1)
    seeding.seed_everything(seed, "denoiser")
    unet = tiny.denoiser(base.denoiser, base.autoencoder.latent_channels, latent_size)
    unet.save_pretrained(folder / "unet")
    losses = train_denoiser(unet, base.denoiser, base.precision, pairs, seed, runtime, work)
    _save_losses(folder, "denoiser", losses)
    unet.save_pretrained(folder / "unet")
    files.write_json(index_path(folder), MODEL_INDEX)
    if base.decoder is not None:
        vae, losses = train_decoder(base.decoder, base.precision, pairs, seed, runtime, work)
        _save_losses(folder, "decoder", losses)
        vae.save_pretrained(folder / "vae")
    if not base.autoencoder.perceptual_weight and base.decoder is None:
        return {}
    return {"perceptual": {"network": packaged.ARCHITECTURE, "sha256": files.sha256(packaged.weights_file())}}


def _save_text_tower(section: Denoiser, seed: int, folder: Path) -> None:
    seeding.seed_everything(seed, "text")
    tiny.text_tower(section.text_width).save_pretrained(folder / "text_encoder")
    tiny.tokenizer().save_pretrained(folder / "tokenizer")


def _save_losses(folder: Path, name: str, rows: list[LossRow]) -> None:
    """Write the losses of every step; one that begins later has no value before."""
    columns = dict.fromkeys(["step", *(loss for row in rows for loss in row)])
    table = [{"step": step, **row} for step, row in enumerate(rows)]
    tables.write_table(folder / f"losses_{name}.csv", table, list(columns))
