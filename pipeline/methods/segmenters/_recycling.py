"""Objectives of recycling diffusion and of the plain U-Net of the same trunk.

The mode determines where the noisy mask of a training step comes from:

* vanilla: the true mask with noise.
* recycle_T, recycle_next: a first pass, without gradient, predicts the mask from the true one at the last noise level
  (where nothing of it is left) or at the next level (the last level has none); noise is added to the prediction.
* selfcond_same, selfcond_next: half of the samples are also conditioned on the prediction of a first pass, from the
  same noisy mask or from the next level, from which the noisy mask follows by the posterior's mean.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core import seeding
from pipeline.core.contracts import Batch
from pipeline.diffusion.noise import image_streams
from pipeline.diffusion.process import Process
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.diffusion.timestep_samplers import ImportanceTimestepSampler, UniformTimestepSampler
from pipeline.methods.segmenters import _sample_losses
from pipeline.methods.segmenters._recycling_denoiser import (
    RecyclingDenoiser,
    RecyclingSampler,
    one_hot,
    to_unit_range,
)
from pipeline.methods.segmenters._recycling_params import ONE_STEP, SELF_CONDITIONED, Params
from pipeline.methods.segmenters._supervised import min_max_normalize
from pipeline.networks.unets.first_recycling_unet import FirstRecyclingUNet
from pipeline.networks.unets.recycling_unet import RecyclingUNet

CONDITIONED = 0.5  # fraction of the samples that are conditioned on their first prediction


class PlainObjective(nn.Module):
    """The trunk without time, trained on labels."""

    def __init__(self, network: RecyclingUNet | FirstRecyclingUNet, params: Params) -> None:
        super().__init__()
        self.network, self.params = network, params

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the losses with a weight above 0; `progress` is not used."""
        logits = self.logits(batch.image)
        with torch.autocast(logits.device.type, enabled=False):
            losses = label_losses(self.params, logits, batch.labels, batch.kept)
            return {name: loss.mean() for name, loss in losses.items()}

    def logits(self, image: Tensor) -> Tensor:
        """Return logits [B, K, *spatial] in float32."""
        return at_least_float32(
            self.network(min_max_normalize(image, per_channel=True) if self.params.stretch else image)
        )

    def predict_steps(self, image: Tensor, sample: int) -> list[Tensor]:
        """Return one map of log-probabilities [B, K, *spatial], the same for every sample."""
        return [self.logits(image).log_softmax(1)]


class RecyclingObjective(nn.Module):
    """The trunk with time, trained on noisy masks of its mode."""

    def __init__(self, network: RecyclingUNet | FirstRecyclingUNet, process: Process, params: Params) -> None:
        super().__init__()
        self.params, self.process = params, process
        self.network = RecyclingDenoiser(
            network,
            process.indices if params.version == "0.1.0" else params.tau,
            params.clip,
            params.stretch,
            params.self_conditioned,
        )
        timestep_sampler = UniformTimestepSampler if params.times == "uniform" else ImportanceTimestepSampler
        self.times = timestep_sampler(0, len(process) - (1 if params.trains_last else 2))
        self.sampler = RecyclingSampler(
            process.respaced(params.steps), network.shape.outside, params.sampler, params.variance
        )

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the losses with a weight above 0; `progress` is not used."""
        rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
        k, weights = self.times.sample(rngs)
        shape = (self.sampler.num_classes, *batch.mask.shape[1:])
        noises = [noise_of(rngs, shape).to(batch.image) for _ in range(2)]
        conditioned = torch.stack([torch.rand((), generator=rng) for rng in rngs]) < CONDITIONED
        k, weights, conditioned = (values.to(batch.image.device) for values in (k, weights, conditioned))
        noisy, noise, previous = self.noisy_inputs(batch, k, (noises[0], noises[1]), conditioned)
        predicted = self.network(batch.image, noisy, k, self.process, previous)
        with torch.autocast(noisy.device.type, enabled=False):
            losses = label_losses(self.params, predicted.logits, batch.mask)
            if self.process.prediction == "eps":
                errors = F.mse_loss(predicted.output, noise, reduction="none").flatten(1).mean(1)
                losses["noise"] = self.params.noise * errors
            self.times.update(k.cpu(), torch.stack(list(losses.values())).sum(0).detach().cpu())
            return {name: (weights * loss).mean() for name, loss in losses.items()}

    @torch.no_grad()
    def noisy_inputs(
        self, batch: Batch, k: Tensor, noises: tuple[Tensor, Tensor], conditioned: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return noisy masks at positions k [B], their noise, and the predictions that condition the network.

        `noises` are those of the noisy mask and of the first pass; predictions are 0 for samples not `conditioned`.
        """
        true, (noise, first) = one_hot(batch.mask, self.sampler.num_classes, batch.image), noises
        if self.params.mode in ("vanilla", "selfcond_same"):
            noisy, level = self.process.q_sample(true, noise, k), k
            first_input = noisy
        else:
            last = len(self.process) - 1
            level = (k + 1).clamp(max=last) if self.params.mode in ONE_STEP else torch.full_like(k, last)
            noisy, first_input = true, self.process.q_sample(true, first, level)
        if self.params.mode == "vanilla":
            return noisy, noise, None
        x0 = self.network(batch.image, first_input, level, self.process, None).x0
        if level is not k:
            noisy, noise = self.renoise(x0, first_input, k, noise)
        if self.params.mode not in SELF_CONDITIONED:
            return noisy, noise, None
        return noisy, noise, to_unit_range(x0) * conditioned.view(-1, *[1] * (x0.ndim - 1)).to(x0)

    def renoise(self, x0: Tensor, first_input: Tensor, k: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the noisy mask at k after a first pass that predicted x0 from `first_input`, and the noise in it."""
        if not self.params.reverses:
            return self.process.q_sample(x0, noise, k), noise
        noisy = self.process.posterior_mean(x0, first_input, k + 1)
        return noisy, self.process.noise_of_x0(x0, noisy, k)

    def predict_steps(self, image: Tensor, sample: int) -> list[Tensor]:
        """Return log-probabilities [B, K, *spatial] after each step; noise depends on the images and the sample."""
        return list(self.sampler.steps(self.network, image, image_streams(image, sample)))


class JointObjective(nn.Module):
    """Several objectives on the same batches."""

    def __init__(self, parts: Mapping[str, PlainObjective | RecyclingObjective]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the losses of all, named by part and loss."""
        named = ((name, part(batch, progress)) for name, part in self.parts.items())
        return {f"{name}_{key}": loss for name, losses in named for key, loss in losses.items()}


def label_losses(params: Params, logits: Tensor, mask: Tensor, kept: Tensor | None = None) -> dict[str, Tensor]:
    """Return the weighted losses [B] per sample over the kept pixels (None: all), those with a weight above 0."""
    kinds = {
        "cross_entropy": _sample_losses.cross_entropy,
        "focal": _sample_losses.focal,
        "dice": _sample_losses.foreground_dice,
    }
    weights = {"cross_entropy": params.cross_entropy, "focal": params.focal, "dice": params.dice}
    return {name: weights[name] * loss(logits, mask, kept) for name, loss in kinds.items() if weights[name]}
