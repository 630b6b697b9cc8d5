"""CIMD (Rahman et al. 2023, CVPR): a diffusion model whose samples are the masks that several raters might draw.

Noise is added to one mask (in a training step that of one rater), the image is concatenated as further channels, and
the U-Net of guided diffusion predicts the clean mask, the noise or the velocity, and the variance of a reverse step.
The loss is L_simple + lambda L_vlb + beta KL(AMN || ACN): L_vlb trains the variance alone, and the divergence is that
of two Gaussians predicted from (image, true mask) and (image, predicted mask). Their z is never fed to the U-Net:
predictions use neither of them.

Where this differs from the published code: masks are -1 and 1, not 0 and 1, so that the threshold is 0; AMN and ACN are
trained (`train_gaussians`); ACN sees the predicted mask, not the predicted noise. The published sampler is `ddpm` with
1000 steps and prediction `eps`. Two classes only.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.core import seeding
from pipeline.core.contracts import Batch, Segmenter
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Augment
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion import betas, noise, variance
from pipeline.diffusion.process import Process
from pipeline.diffusion.reverse import CleanPrediction, reverse
from pipeline.diffusion.schedule import noise_of
from pipeline.diffusion.timestep_samplers import UniformTimestepSampler
from pipeline.methods.segmenters import _mask_denoiser, _supervised
from pipeline.methods.segmenters._cimd_params import Params
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised
from pipeline.networks.unets import gaussian_encoder, guided_unet
from pipeline.networks.unets.gaussian_encoder import GaussianEncoder
from pipeline.networks.unets.guided_unet import GuidedUNet

PAPER_STEPS, FIRST, LAST = 1000, 1e-4, 0.02  # of training, and the betas at their ends


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return the segmenter of images of `spec.channels` channels. Raises UserError for volumes and several classes."""
    shape = network_shape(params, spec)
    check_params(params, spec, shape)
    unchanged = ((0.0,) * spec.channels, (1.0,) * spec.channels)
    network = Preprocessed(GuidedUNet(shape), unchanged, params.fold * shape.stride)
    return CIMD(network, params, spec)


def network_shape(params: Params, spec: DatasetSpec) -> guided_unet.GuidedShape:
    """Return the sizes of the U-Net."""
    return guided_unet.GuidedShape(
        in_channels=(params.image_copies * spec.channels + 1) * params.fold**2,
        out_channels=2 * params.fold**2,
        base=params.base,
        multipliers=params.multipliers,
        blocks=params.blocks,
        attention=params.attention,
        heads=params.heads,
        groups=params.groups,
        dropout=params.dropout,
    )


def check_params(params: Params, spec: DatasetSpec, shape: guided_unet.GuidedShape) -> None:
    """Raise UserError where the data set or the sizes do not fit."""
    if spec.ndim != 2:
        raise UserError(f"cimd segments images; {spec.name} has {spec.ndim} dimensions (recycling takes volumes)")
    if spec.num_classes != 2:
        raise UserError(
            f"cimd segments one structure and the background, but {spec.name} has {spec.num_classes} classes"
        )
    if params.steps > params.train_steps:
        raise UserError(f"cimd: steps is {params.steps}, but may be at most train_steps, {params.train_steps}")
    if any(width % params.heads for width in shape.widths):
        raise UserError(f"cimd: {list(shape.widths)} channels cannot be divided into {params.heads} heads")
    _supervised.check_size(spec.size, params.fold * shape.stride)


class CIMDDenoiser(nn.Module):
    """The U-Net of noisy masks concatenated with their images, and its diffusion process."""

    def __init__(self, network: Preprocessed, params: Params) -> None:
        super().__init__()
        self.network, self.copies, self.fold = network, params.image_copies, params.fold
        self.process = Process.of(betas.input_scaled(noise_schedule(params), params.input_scale), params.prediction)

    def forward(self, noisy: Tensor, image: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Return prediction and v, shaped as the noisy masks [B, 1, H, W], for training timesteps [B]."""
        inputs = torch.cat([image.repeat(1, self.copies, 1, 1), noisy], 1)
        output = self.network.network(F.pixel_unshuffle(inputs, self.fold), timesteps)
        predicted, v = F.pixel_shuffle(output.float(), self.fold).chunk(2, 1)
        return predicted, v


class CIMDObjective(nn.Module):
    """L_simple + lambda L_vlb + beta KL, the last in nats per sample."""

    def __init__(self, denoiser: CIMDDenoiser, params: Params, channels: int) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.weight_vlb, self.weight_kl = params.lambda_vlb, params.beta_ambiguity
        self.times = UniformTimestepSampler(0, params.train_steps - 1)
        filters, latent = params.gaussian_filters, params.gaussian_latent
        size = gaussian_encoder.GaussianEncoderShape(channels + 1, filters, params.gaussian_convolutions, latent)
        self.modelling, self.controlling = GaussianEncoder(size), GaussianEncoder(size)
        for weight in (*self.modelling.parameters(), *self.controlling.parameters()):
            weight.requires_grad_(params.train_gaussians)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return the three losses; `progress` is not used."""
        image, process = self.denoiser.network.preprocess(batch.image), self.denoiser.process
        x0 = _mask_denoiser.encode_maps(_mask_denoiser.one_hot_maps(batch.mask, 2), image.shape[-2:])
        rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
        k = self.times.sample(rngs)[0].to(x0.device)
        noise_map = noise_of(rngs, tuple(x0.shape[1:])).to(x0.device)
        noisy = process.q_sample(x0, noise_map, k)
        predicted, v = self.denoiser(noisy, image, k)
        with torch.autocast(x0.device.type, enabled=False):
            simple = F.mse_loss(predicted, process.target(x0, noise_map, k))
            clean = process.predict_x0(predicted, noisy, k)
            losses = {"simple": simple, "variational": self.weight_vlb * self.bound(x0, noisy, clean, v, k).mean()}
            return losses | {"ambiguity": self.weight_kl * self.divergence(image, x0, clean).mean()}

    def bound(self, x0: Tensor, noisy: Tensor, clean: Tensor, v: Tensor, k: Tensor) -> Tensor:
        """Return L_vlb [B] in bits per pixel; its gradient reaches v alone."""
        process = self.denoiser.process
        mean = process.posterior_mean(clean.detach(), noisy, k)
        log_variance = variance.learned_log_variance(process, v, k)
        return variance.bound_bits(process, x0, noisy, mean, log_variance, k)

    def divergence(self, image: Tensor, x0: Tensor, clean: Tensor) -> Tensor:
        """Return KL(AMN on the true mask || ACN on the predicted one) in nats [B]."""
        return gaussian_encoder.divergence(self.modelling(image, x0), self.controlling(image, clean.clamp(-1, 1)))


class CIMD(Supervised):
    """A segmenter whose samples start from different noise."""

    one_pass = False
    takes_ignored = False  # noise is added to the whole mask

    def __init__(self, network: Preprocessed, params: Params, spec: DatasetSpec) -> None:
        about: dict[str, Any] = {"method": "cimd", "params": params.model_dump(mode="json")}
        about |= {"weights": _supervised.weights_record("none"), "stochastic": True}
        denoiser = CIMDDenoiser(network, params)
        super().__init__(network, spec, about, CIMDObjective(denoiser, params, spec.channels))
        self.denoiser, self.params = denoiser, params
        self.process = denoiser.process.respaced(params.steps)

    @torch.no_grad()
    def predict(self, image: Tensor, num_samples: int = 1) -> Tensor:
        """Return probabilities [B, S, 2, H, W]; each sample is a mask (threshold 0.5), the mean is over raters."""
        samples = [list(self.sample_steps(image, sample))[-1] for sample in range(num_samples)]
        return torch.stack(samples, 1)

    @torch.no_grad()
    def trajectory(self, image: Tensor) -> Tensor:
        """Return the probabilities of the first sample after each sampling step: [steps, B, 2, H, W]."""
        return torch.stack(list(self.sample_steps(image, 0)))

    def sample_steps(self, image: Tensor, sample: int) -> Iterator[Tensor]:
        """Yield probabilities [B, 2, H, W] after each step, of the sample of this number."""
        self.objective.eval()
        prepared = self.network.preprocess(image.to(self.network.mean.device))
        rngs = noise.image_streams(image, sample)
        for clean in self._denoise_steps(prepared, rngs):
            foreground = self.network.restore_size((clean + 1) / 2, image)
            yield torch.cat([1 - foreground, foreground], 1)

    def augment(self, train: ImageSet) -> Augment | None:
        """Return flips and quarter turns, or nothing."""
        return super().augment(train) if self.params.augmentation == "dihedral" else None

    def _denoise_steps(self, prepared: Tensor, rngs: list[torch.Generator]) -> Iterator[Tensor]:
        """Yield the predicted clean masks [B, 1, H, W], clipped to [-1, 1], from the noisiest level to the cleanest."""

        def predict(x: Tensor, k: Tensor) -> CleanPrediction:
            predicted, v = self.denoiser(x, prepared, self.process.indices.to(x.device)[k])
            clean = self.process.predict_x0(predicted, x, k).clamp(-1, 1)
            return clean, variance.learned_log_variance(self.process, v, k)

        start = noise_of(rngs, (1, *prepared.shape[-2:])).to(prepared.device)
        for _, _, clean in reverse(self.process, start, rngs, predict, self.params.sampler):
            yield clean


def noise_schedule(params: Params) -> Tensor:
    """Return betas [T]; linear and quadratic ones are rescaled for other than 1000 steps, to end in as much noise."""
    steps, scale = params.train_steps, PAPER_STEPS / params.train_steps
    if params.schedule == "cosine":
        return betas.cosine(steps)
    make = betas.linear if params.schedule == "linear" else betas.quadratic
    return make(steps, FIRST * scale, min(LAST * scale, 0.999))
