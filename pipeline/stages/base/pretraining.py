"""The base model: trained from scratch on the training images, or brought in from a folder, a file or a hub."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core import files, paths, seeding, tables
from pipeline.core.contracts import Batch, Recipe
from pipeline.core.runtime import Runtime
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Batches, Pairs, flip
from pipeline.diffusion.schedule import noise_of
from pipeline.networks.stable_diffusion.linear_start import Palette, start_linear
from pipeline.networks.stable_diffusion.model import StableDiffusion
from pipeline.networks.stable_diffusion.model_index import MODEL_INDEX, index_path
from pipeline.stages.base import tiny
from pipeline.stages.base.base_import import import_base
from pipeline.stages.base.base_source import WITHDRAWN
from pipeline.stages.base.params import Autoencoder, Base, Denoiser
from pipeline.study import Params
from pipeline.training.loop import fit

VERSION = 1  # raised when results change


def make_base(params: Params) -> None:
    """Publishes the base of a study; a killed run resumes."""
    train = ImageSet.open(paths.real(params.study)).split("train")
    material = train.digest if params.base.source == "scratch" else content(Path(params.base.source))
    settings = params.base.model_dump(mode="json", exclude={"weights"} if params.base.source == "scratch" else None)
    print_of = files.fingerprint(VERSION, settings, params.seed, params.threads, material)
    work = paths.work("base", print_of)
    folder = work / "base"
    if not files.is_whole(folder):
        shutil.rmtree(folder, ignore_errors=True)  # its files may be links to published ones: never write into them
        if params.base.source == "scratch":
            _pretrain(params, train, work)
            about = {}
        else:
            about = import_base(params.base, folder)
        files.write_json(folder / "manifest.json", {"fingerprint": print_of, "source": origin(params.base), **about})
        files.seal(folder)
    files.publish(folder, paths.base(params.study))


def origin(base: Base) -> str:
    """The source as outputs name it: no path of this machine, and the id that holds a withdrawn one's weights."""
    source = Path(base.source)
    return source.name if source.exists() else WITHDRAWN.get(base.source, base.source)


def content(source: Path) -> str | None:
    """Hash of a local base; None for one that lies on a hub, which its revision identifies."""
    if source.is_dir():
        return files.tree_sha256(source)
    return files.sha256(source) if source.is_file() else None


def _pretrain(params: Params, train: ImageSet, work: Path) -> None:
    assert params.base.autoencoder and params.base.denoiser  # Base has checked it
    runtime = Runtime.alone(params.threads)
    pairs = Pairs.read(train)
    folder = work / "base"
    vae = _train_autoencoder(params, params.base.autoencoder, pairs, runtime, work)
    _text_parts(params.base.denoiser, params.seed, folder)
    vae.save_pretrained(folder / "vae")
    _save_scheduler(params.base.denoiser, folder)
    latent_size = params.data.size // 2 ** (len(params.base.autoencoder.channels) - 1)
    seeding.seed_everything(params.seed, "denoiser")
    unet = tiny.denoiser(params.base.denoiser, params.base.autoencoder.latent_channels, latent_size)
    unet.save_pretrained(folder / "unet")
    _train_denoiser(params, params.base.denoiser, unet, pairs, runtime, work)
    unet.save_pretrained(folder / "unet")
    files.write_json(index_path(folder), MODEL_INDEX)


def _train_autoencoder(
    params: Params, section: Autoencoder, pairs: Pairs, runtime: Runtime, work: Path
) -> AutoencoderKL:
    seeding.seed_everything(params.seed, "autoencoder")
    vae = tiny.autoencoder(section, params.data.size)
    start_linear(vae, Palette.of(pairs.image.float() / 127.5 - 1))
    batches = Batches(pairs, section.batch_size, f"{params.seed}/autoencoder", CropAndFlip(section.crop))
    recipe = Recipe(
        section.max_steps,
        section.learning_rate,
        betas=(0.9, 0.99),
        schedule="linear",
        max_grad_norm=1.0,
        precision=params.base.precision,
        checkpoint_every=100,
    )
    objective = Reconstruction(vae, section.kl_weight)
    rows = fit(objective, batches, recipe, runtime, work / "autoencoder", "autoencoder")
    _save_losses(work, "autoencoder", rows)
    vae.register_to_config(scaling_factor=_unit_scale(vae, pairs, runtime))
    return vae.eval()


class CropAndFlip:
    """A random square crop, mirrored half of the time."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Tensor, mask: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Cuts image and mask alike; images smaller than the crop are kept whole."""
        top, left = (int(rng.integers(max(extent - self.size, 0) + 1)) for extent in image.shape[-2:])
        window = (..., slice(top, top + self.size), slice(left, left + self.size))
        return flip(image[window], mask[window], rng)


class Reconstruction(nn.Module):
    """L1 + L2 of the reconstruction and a small KL term (Rombach et al. 2022, without the adversarial part)."""

    def __init__(self, vae: AutoencoderKL, kl_weight: float) -> None:
        super().__init__()
        self.vae, self.kl_weight = vae, kl_weight

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        image = batch.image * 2 - 1
        posterior = self.vae.encode(image).latent_dist
        noise = noise_of([seeding.torch_rng(s, "posterior") for s in batch.streams], posterior.mean.shape[1:])
        decoded = self.vae.decode(posterior.mean + posterior.std * noise.to(image.device)).sample.float()
        return {
            "l1": F.l1_loss(decoded, image),
            "l2": F.mse_loss(decoded, image),
            "kl": self.kl_weight * posterior.kl().mean(),
        }


@torch.no_grad()
def _unit_scale(vae: AutoencoderKL, pairs: Pairs, runtime: Runtime) -> float:
    """The factor that gives the latents of the training images unit variance."""
    vae.eval()
    images = pairs.image[:256].float().to(runtime.device) / 127.5 - 1
    means = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(16)])
    return float(1 / means.std())


def _text_parts(section: Denoiser, seed: int, folder: Path) -> None:
    seeding.seed_everything(seed, "text")
    tiny.text_tower(section.text_width).save_pretrained(folder / "text_encoder")
    tiny.tokenizer().save_pretrained(folder / "tokenizer")


def _save_scheduler(section: Denoiser, folder: Path) -> None:
    tiny.scheduler(section.prediction).save_pretrained(folder / "scheduler")


def _train_denoiser(
    params: Params, section: Denoiser, unet: UNet2DConditionModel, pairs: Pairs, runtime: Runtime, work: Path
) -> None:
    model = replace(StableDiffusion.open(work / "base").to(runtime.device), unet=unet)
    batches = Batches(pairs, section.batch_size, f"{params.seed}/denoiser", flip)
    recipe = Recipe(
        section.max_steps,
        section.learning_rate,
        schedule="one_cycle",
        max_grad_norm=1.0,
        precision=params.base.precision,
        checkpoint_every=50,
    )
    objective = Denoising(model, section.prompt_dropout)
    rows = fit(objective, batches, recipe, runtime, work / "denoiser", "denoiser")
    _save_losses(work, "denoiser", rows)


class Denoising(nn.Module):
    """Mean squared error of the denoiser's prediction on noisy latents (Rombach et al. 2022, eq. 2)."""

    def __init__(self, model: StableDiffusion, prompt_dropout: float) -> None:
        super().__init__()
        self.unet, self.frozen, self.prompt_dropout = model.unet, [model], prompt_dropout

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        model = self.frozen[0]
        rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
        moments = model.moments(batch.image)
        shape = (moments.shape[1] // 2, *moments.shape[2:])
        latents = model.latents(moments, noise_of(rngs, shape).to(moments.device))
        timesteps = torch.cat([torch.randint(len(model.schedule), (1,), generator=rng) for rng in rngs])
        noise = noise_of(rngs, shape).to(moments.device)
        prompts = [
            "" if torch.rand(1, generator=rng) < self.prompt_dropout else prompt
            for rng, prompt in zip(rngs, batch.prompts, strict=True)
        ]
        timesteps = timesteps.to(moments.device)
        noisy = model.schedule.q_sample(latents, noise, timesteps)
        predicted = self.unet(noisy, timesteps, model.embed(prompts)).sample
        return {"denoising": F.mse_loss(predicted.float(), model.schedule.target(latents, noise, timesteps))}


def _save_losses(work: Path, name: str, rows: list[dict[str, float]]) -> None:
    table = [{"step": step, **row} for step, row in enumerate(rows)]
    tables.write_table(work / "base" / f"losses_{name}.csv", table)
