"""Arithmetic per sample of what is trained beside generators, counted on the meta device: the base and segmenters."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core import plugins
from pipeline.core.contracts import Batch
from pipeline.core.errors import UserError
from pipeline.data.sample import DatasetSpec
from pipeline.networks.patch_discriminator import PatchDiscriminator
from pipeline.networks.perceptual import PerceptualDistance
from pipeline.networks.projected_discriminator import ProjectedDiscriminator
from pipeline.segmentation.params import SegmenterEntry
from pipeline.stages.base import tiny
from pipeline.stages.base.adversarial import Adversarial
from pipeline.stages.base.params import Autoencoder, Base
from pipeline.stages.finetune.meta_profiler import operations

META = torch.device("meta")
BATCH = 2  # batch norms need more than one value per channel
TRAINING = 3  # the gradient takes twice the forward pass; torch counts it wrongly for grouped convolutions
COUNTED_AS = {  # options of segmenters, by their value, that read numbers, and options with the same operations
    "loss": {"B": "A"},
    "times": {"importance": "uniform"},
}


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


def _forward(network: Callable[[Any], Any], image: Any) -> int:
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


def decoder_operations(base: Base, size: int) -> float:
    """Return the operations of the whole further training of the decoder on images of `size` pixels.

    They include those of the latents. In every step, a paired and a sampled latent are decoded per sample. The frozen
    network sees both images and two real ones and passes one gradient back; for the perceptual distance it sees an
    image and its target again. The heads see two images for the decoder and four for themselves.
    """
    assert base.autoencoder and base.decoder
    section, side = base.decoder, size // 2 ** (len(base.autoencoder.channels) - 1)
    with META:
        vae: Any = tiny.autoencoder(base.autoencoder, size)
        latent = torch.empty(1, base.autoencoder.latent_channels, side, side)
        image = torch.empty(1, 3, size, size)
        network, heads = PerceptualDistance(weights=False), ProjectedDiscriminator()
        with torch.no_grad():
            maps = network.network(image)
    decoding = TRAINING * _forward(lambda one: vae.decode(one).sample, latent)
    features, judging = _forward(network.network, image), _forward(heads, maps)
    each = 2 * decoding + (2 + 2 * 2 + 3) * features + (2 * 2 + 4 * TRAINING) * judging
    latents = section.denoiser_passes * denoiser_operations(base, size) / TRAINING
    return float(each * section.max_steps * section.batch_size + latents)


def segmenter_operations(name: str, entry: SegmenterEntry, spec: DatasetSpec) -> float | None:
    """Return the operations of one image in training a segmenter.

    A network of one image is counted as TRAINING times its forward pass, without the loss. Otherwise, as with diffusion
    models, the operations of the whole objective are counted, with its passes without gradient. None where they cannot
    be counted. Initial weights do not matter, so none are read or downloaded.
    """
    method = entry.method_of(name)
    params = plugins.read_params("segmenters", method, entry.options, f"segmenters.{name}")
    alike = {
        key: values[getattr(params, key)] for key, values in COUNTED_AS.items() if getattr(params, key, None) in values
    }
    params = params.model_copy(update=alike | ({"weights": "none"} if hasattr(params, "weights") else {}))
    segmenter = plugins.load("segmenters", method).build(params, spec)
    image = torch.zeros(BATCH, spec.channels, *(getattr(params, "patch", None) or spec.spatial))
    forward = _forward_operations(segmenter, image)
    total = _objective_operations(segmenter.objective, image) if forward is None else TRAINING * forward
    return None if total is None else total / BATCH


def _forward_operations(segmenter: Any, image: Tensor) -> int | None:
    """Return the operations of the network of a supervised segmenter; None where it takes more than an image."""
    network = getattr(segmenter, "network", None)
    if network is None:
        return None
    mode = _without_numbers(network)
    try:
        with mode, torch.no_grad(), FlopCounterMode(display=False) as counter:
            network.network(network.preprocess(mode.from_tensor(image)))
    except (NotImplementedError, RuntimeError, UserError):  # an operation that needs numbers, not shapes
        return None
    except (AttributeError, TypeError):  # no network of one image alone: a diffusion segmenter's sees a noisy mask too
        return None
    return counter.get_total_flops()


def _objective_operations(objective: torch.nn.Module, image: Tensor) -> int | None:
    """Return the operations of a training step, forward and backward, on images whose pixels are all background."""
    mode = _without_numbers(objective)
    names = tuple(str(place) for place in range(len(image)))
    try:
        with mode, FlopCounterMode(display=False) as counter:
            mask = torch.zeros(len(image), *image.shape[2:], dtype=torch.long)
            losses = objective(Batch(mode.from_tensor(image), mask, names, names), 0.0)
            torch.stack(list(losses.values())).sum().backward()
    except (NotImplementedError, RuntimeError, UserError):  # as above; the forecast then says "not counted"
        return None
    return counter.get_total_flops()


def _without_numbers(module: torch.nn.Module) -> FakeTensorMode:
    """Replace the weights and buffers of a module by tensors that have a shape, a type and a device, but no numbers.

    Unlike the meta device, these keep the device's name, for which autocast asks.
    """
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    for part in module.modules():
        for key, weight in part.named_parameters(recurse=False):
            fake = mode.from_tensor(weight.detach())
            setattr(part, key, torch.nn.Parameter(fake, weight.requires_grad))
        for key, buffer in part.named_buffers(recurse=False):
            setattr(part, key, mode.from_tensor(buffer))
    return mode
