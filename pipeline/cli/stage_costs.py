"""Arithmetic per sample of what is trained beside generators, counted on the meta device: the base and segmenters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core import plugins
from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.networks.patch_discriminator import PatchDiscriminator
from pipeline.networks.perceptual import PerceptualDistance
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.base import tiny
from pipeline.stages.base.adversarial import Adversarial
from pipeline.stages.base.params import Autoencoder, Base
from pipeline.stages.finetune.meta_profiler import operations

META = torch.device("meta")
BATCH = 2  # batch norms need more than one value per channel
TRAINING = 3  # the gradient takes twice the forward pass; torch counts it wrongly for grouped convolutions


def autoencoder_operations(base: Base) -> float:
    """Return the floating-point operations of one crop in training the autoencoder, forward and backward.

    Those of the perceptual and the adversarial term are in it, the latter as a mean over the training.
    """
    assert base.autoencoder
    section, crop = base.autoencoder, base.autoencoder.crop
    with META:
        vae: Any = tiny.autoencoder(section, crop)
        image = torch.empty(1, 3, crop, crop)
    own = float(operations(lambda: vae.decode(vae.encode(image).latent_dist.mean).sample.sum()))  # noqa: PLW0108 (counted within)
    return own + _perceptual(section, image) + _adversarial(section, image)


def _perceptual(section: Autoencoder, image: Tensor) -> float:
    """Three forward passes of the frozen network: for the crop, its reconstruction and the gradient of the latter."""
    if not section.perceptual_weight:
        return 0.0
    with META:
        network = PerceptualDistance(weights=False)
    return 3.0 * _forward(network.network, image)


def _adversarial(section: Autoencoder, image: Tensor) -> float:
    """Two forward passes for the decoder and, of crop and reconstruction, three each for the discriminator."""
    if not section.adversarial_weight:
        return 0.0
    with META:
        discriminator = PatchDiscriminator(section.discriminator_channels)
    term = Adversarial(discriminator, section.adversarial_weight, section.adversarial_start, section.max_steps)
    return (2 * (1 - term.counts) + 2 * TRAINING * (1 - term.begins)) * _forward(discriminator, image)


def _forward(network: Callable[[Tensor], Any], image: Tensor) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops()


def denoiser_operations(base: Base, size: int) -> float:
    """Return the operations of one image of `size` pixels in training the denoiser; it is encoded once, not counted."""
    assert base.autoencoder and base.denoiser
    side, channels = size // 2 ** (len(base.autoencoder.channels) - 1), base.autoencoder.latent_channels
    with META:
        unet: Any = tiny.denoiser(base.denoiser, channels, side)
        latents, time = torch.empty(1, channels, side, side), torch.zeros(1, dtype=torch.long)
        text = torch.empty(1, tiny.TOKENS, base.denoiser.text_width)
    return float(operations(lambda: unet(latents, time, text).sample.sum()))  # noqa: PLW0108 (counted within)


def segmenter_operations(name: str, entry: SegmenterEntry, spec: DatasetSpec) -> float | None:
    """Return the operations of one image in training a segmenter: TRAINING times its forward pass, without the loss.

    None where they cannot be counted. Initial weights do not matter, so none are read or downloaded.
    """
    method = entry.method_of(name)
    params = plugins.read_params("segmenters", method, entry.options, f"segmenters.{name}")
    if hasattr(params, "weights"):
        params = params.model_copy(update={"weights": "none"})
    segmenter = plugins.load("segmenters", method).build(params, spec)
    segmenter.objective.to(META)
    network = getattr(segmenter, "network", None)
    if network is None:
        return None
    image = torch.empty(BATCH, spec.channels, *spec.spatial, device=META)
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.network(network.preprocess(image))
    except (NotImplementedError, RuntimeError, UserError):  # an operation that needs numbers, not shapes
        return None
    except (AttributeError, TypeError):  # no network of one image alone: a diffusion segmenter's sees a noisy mask too
        return None
    return TRAINING * counter.get_total_flops() / BATCH
