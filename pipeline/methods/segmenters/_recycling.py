"""Objectives of recycling diffusion and of the plain U-Net of the same trunk.

A mode tells where the noisy mask of a training step comes from:

* vanilla: the true mask with noise.
* recycle_T, recycle_next: a first pass, without gradient, finds the mask in the true one at the last noise level (which
  holds nothing of it) or at the next level (the last one itself has none); noise is added to what it found.
* selfcond_same, selfcond_next: half of the samples also see the prediction of a first pass at the same noisy mask, or
  at the next level, from which the noisy mask follows by the posterior's mean.
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
from pipeline.diffusion.times import ImportanceTimes, UniformTimes
from pipeline.methods.segmenters import _overlaps
from pipeline.methods.segmenters._denoiser import Denoiser, Sampler, one_hot, shown, stretched
from pipeline.methods.segmenters._recycling_params import ONE_STEP, SELF_CONDITIONED, Params
from pipeline.networks.unets.recycling_unet import RecyclingUNet

KEPT = 0.5  # share of the samples that see their first prediction


class Plain(nn.Module):
    """The trunk without time, trained on labels."""

    def __init__(self, network: RecyclingUNet, params: Params) -> None:
        super().__init__()
        self.network, self.params = network, params

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The losses with a weight above 0; `progress` is not used."""
        logits = self.logits(batch.image)
        with torch.autocast(logits.device.type, enabled=False):
            return {name: loss.mean() for name, loss in label_losses(self.params, logits, batch.mask).items()}

    def logits(self, image: Tensor) -> Tensor:
        """[B, K, *spatial], in float32."""
        return at_least_float32(self.network(stretched(image) if self.params.stretch else image))

    def found(self, image: Tensor, sample: int) -> list[Tensor]:
        """One map of log-probabilities [B, K, *spatial], whatever the sample."""
        return [self.logits(image).log_softmax(1)]


class Recycled(nn.Module):
    """The trunk with time, trained on noisy masks of its mode."""

    def __init__(self, network: RecyclingUNet, process: Process, params: Params) -> None:
        super().__init__()
        self.params, self.process = params, process
        self.network = Denoiser(network, params.tau, params.clip, params.stretch, params.self_conditioned)
        draws = UniformTimes if params.times == "uniform" else ImportanceTimes
        self.times = draws(0, len(process) - (1 if params.trains_last else 2))
        self.sampler = Sampler(process.respaced(params.steps), network.shape.outside, params.sampler, params.variance)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The losses with a weight above 0; `progress` is not used."""
        rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
        k, weights = self.times.draw(rngs)
        shape = (self.sampler.num_classes, *batch.mask.shape[1:])
        noises = [noise_of(rngs, shape).to(batch.image) for _ in range(2)]
        kept = torch.stack([torch.rand((), generator=rng) for rng in rngs]) < KEPT
        k, weights, kept = (values.to(batch.image.device) for values in (k, weights, kept))
        noisy, noise, before = self.start(batch, k, (noises[0], noises[1]), kept)
        found = self.network(batch.image, noisy, k, self.process, before)
        with torch.autocast(noisy.device.type, enabled=False):
            losses = label_losses(self.params, found.logits, batch.mask)
            if self.process.prediction == "eps":
                errors = F.mse_loss(found.output, noise, reduction="none").flatten(1).mean(1)
                losses["noise"] = self.params.noise * errors
            self.times.observe(k.cpu(), torch.stack(list(losses.values())).sum(0).detach().cpu())
            return {name: (weights * loss).mean() for name, loss in losses.items()}

    @torch.no_grad()
    def start(
        self, batch: Batch, k: Tensor, noises: tuple[Tensor, Tensor], kept: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Noisy masks at positions k [B], the noise in them, and the predictions that the network sees beside them.

        `noises` are those of the noisy mask and of the first pass; samples not `kept` see no prediction.
        """
        true, (noise, first) = one_hot(batch.mask, self.sampler.num_classes, batch.image), noises
        if self.params.mode in ("vanilla", "selfcond_same"):
            noisy, level = self.process.q_sample(true, noise, k), k
            seen = noisy
        else:
            last = len(self.process) - 1
            level = (k + 1).clamp(max=last) if self.params.mode in ONE_STEP else torch.full_like(k, last)
            noisy, seen = true, self.process.q_sample(true, first, level)
        if self.params.mode == "vanilla":
            return noisy, noise, None
        x0 = self.network(batch.image, seen, level, self.process, None).x0
        if level is not k:
            noisy, noise = self.follow(x0, seen, k, noise)
        if self.params.mode not in SELF_CONDITIONED:
            return noisy, noise, None
        return noisy, noise, shown(x0) * kept.view(-1, *[1] * (x0.ndim - 1)).to(x0)

    def follow(self, x0: Tensor, seen: Tensor, k: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The noisy mask at k after a first pass that found x0 in `seen`, and the noise in it."""
        if not self.params.reverses:
            return self.process.q_sample(x0, noise, k), noise
        noisy = self.process.posterior_mean(x0, seen, k + 1)
        return noisy, self.process.noise_of_x0(x0, noisy, k)

    def found(self, image: Tensor, sample: int) -> list[Tensor]:
        """Log-probabilities [B, K, *spatial] after each sampling step, from the noise of the images and the sample."""
        return list(self.sampler.steps(self.network, image, image_streams(image, sample)))


class SideBySide(nn.Module):
    """Several objectives on the same batches."""

    def __init__(self, parts: Mapping[str, Plain | Recycled]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict(parts)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """The losses of all, named by part and loss."""
        named = ((name, part(batch, progress)) for name, part in self.parts.items())
        return {f"{name}_{key}": loss for name, losses in named for key, loss in losses.items()}


def label_losses(params: Params, logits: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Weighted losses [B] of each sample, those with a weight above 0."""
    kinds = {"cross_entropy": _overlaps.cross_entropy, "focal": _overlaps.focal, "dice": _overlaps.foreground_dice}
    weights = {"cross_entropy": params.cross_entropy, "focal": params.focal, "dice": params.dice}
    return {name: weights[name] * loss(logits, mask) for name, loss in kinds.items() if weights[name]}
