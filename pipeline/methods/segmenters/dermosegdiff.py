"""DermoSegDiff (Bozorgpour et al. 2023): a mask is sampled from noise by a network with a path for the image.

The network of the paper has 321,181,377 weights (ISIC 2018, PH2) or 157,749,441 (HAM10000), its baseline
(`network: concat`) 166,940,801; the defaults here are for a CPU. Loss A is the squared error of what is predicted,
loss B adds the same error weighted by proximity to the border (diffusion/boundary_weight.py). Published: noise is
predicted (`prediction: eps`) in 250 steps of DDPM without clipping, nine samples are averaged and thresholded at 0.
Predicting the mask itself (`x0`) needs far fewer training steps. docs/diffusion_segmenters.md has paper and code side
by side.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core import seeding
from pipeline.core.contracts import Batch, Segmenter
from pipeline.core.errors import UserError
from pipeline.data.image_set import ImageSet
from pipeline.data.loading import Augment, dihedral
from pipeline.data.sample import DatasetSpec
from pipeline.diffusion import betas, noise
from pipeline.diffusion.boundary_weight import exponent, nearness
from pipeline.diffusion.process import Process
from pipeline.diffusion.schedule import noise_of
from pipeline.diffusion.timestep_samplers import UniformTimestepSampler
from pipeline.methods.segmenters import _mask_denoiser, _supervised
from pipeline.methods.segmenters._dermosegdiff_params import Params
from pipeline.methods.segmenters._five_changes import five_changes
from pipeline.methods.segmenters._grad_cam import grad_cam
from pipeline.methods.segmenters._mask_denoiser import MaskDenoiser, MaskSampler
from pipeline.methods.segmenters._supervised import Preprocessed, Supervised
from pipeline.networks.unets.concat_unet import ConcatUNet
from pipeline.networks.unets.dual_path_unet import DualPathShape, DualPathUNet

NETWORKS = {"dual_path": DualPathUNet, "concat": ConcatUNet}


def build(params: Params, spec: DatasetSpec) -> Segmenter:
    """Return the segmenter of 2-D images of any number of channels. Raises UserError."""
    if spec.ndim != 2:
        raise UserError(f"dermosegdiff segments images; {spec.name} has {spec.ndim} dimensions (recycling: volumes)")
    if spec.num_classes > 2 and params.threshold:
        raise UserError(f"dermosegdiff: threshold needs two classes; {spec.name} has {spec.num_classes}")
    shape = network_shape(params, spec)
    _supervised.check_size(spec.size, shape.stride)
    unchanged = ((0.0,) * spec.channels, (1.0,) * spec.channels)
    return DermoSegDiff(Preprocessed(NETWORKS[params.network](shape), unchanged, shape.stride), params, spec)


def network_shape(params: Params, spec: DatasetSpec) -> DualPathShape:
    """Return the sizes of the network."""
    return DualPathShape(
        mask_channels=1 if spec.num_classes == 2 else spec.num_classes,
        image_channels=spec.channels,
        width_x=params.width_x,
        width_g=params.width_g,
        mult_x=params.mult_x,
        mult_g=params.mult_g,
        heads=params.heads,
        dim_head=params.dim_head,
        groups=params.groups,
        stem_stride=params.stem_stride,
    )


def build_process(params: Params) -> Process:
    """Return the process of training; 250 linear steps run from 0.0004 to 0.08."""
    steps, ends = params.train_steps, (0.1 / params.train_steps, 20 / params.train_steps)
    if params.schedule == "cosine":
        return Process.of(betas.cosine(steps), params.prediction)
    schedule = betas.linear if params.schedule == "linear" else betas.quadratic
    return Process.of(schedule(steps, *ends), params.prediction)


class DermoSegDiffObjective(nn.Module):
    """The squared error of what is predicted (A), and the same near the border of the true mask (B)."""

    def __init__(self, denoiser: MaskDenoiser, params: Params, num_classes: int) -> None:
        super().__init__()
        self.denoiser, self.params, self.num_classes = denoiser, params, num_classes
        self.process = build_process(params)
        self.times = UniformTimestepSampler(0 if params.train_first else 1, params.train_steps - 1)

    def forward(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Return one or two losses; `progress` is not used."""
        prepared = self.denoiser.preprocess(batch.image)
        maps = _mask_denoiser.one_hot_maps(batch.mask, self.num_classes)
        x0 = _mask_denoiser.encode_maps(maps, prepared.shape[-2:])
        rngs = [seeding.torch_rng(stream, "noise") for stream in batch.streams]
        k = self.times.sample(rngs)[0].to(x0.device)
        noise_map = noise_of(rngs, tuple(x0.shape[1:])).to(x0.device)
        predicted = self.denoiser(self.process.q_sample(x0, noise_map, k), prepared, k)
        with torch.autocast(x0.device.type, enabled=False):
            height, width = batch.mask.shape[-2:]
            error = (predicted - self.process.target(x0, noise_map, k)).square()[..., :height, :width]
            losses = {"mse": error.mean()}
            if self.params.loss == "B":
                losses["boundary"] = self.params.boundary * (self.weights(batch, maps, k) * error).mean()
            return losses

    def weights(self, batch: Batch, maps: Tensor, k: Tensor) -> Tensor:
        """Return the boundary weight [B, M, H, W] at timesteps k; 0 for images without the boundary loss."""
        masks, extend = maps.cpu().flatten(0, 1).numpy(), self.params.extend
        near = torch.from_numpy(np.stack([nearness(mask, extend) for mask in masks]))
        power = exponent(k.float(), self.params.train_steps, self.params.gamma)[:, None, None, None]
        weights = near.view(maps.shape).to(maps.device) ** power
        if self.params.boundary_on == "all":
            return weights
        is_real = [not synthetic for synthetic in batch.synthetic or [False] * len(batch)]
        return weights * torch.tensor(is_real, device=maps.device)[:, None, None, None]


class DermoSegDiff(Supervised):
    """A segmenter whose prediction is the mean of `samples` masks sampled from noise."""

    one_pass = False
    takes_ignored = False  # noise is added to the whole mask

    def __init__(self, network: Preprocessed, params: Params, spec: DatasetSpec) -> None:
        about: dict[str, Any] = {"method": "dermosegdiff", "params": params.model_dump(mode="json")}
        about |= {"weights": _supervised.weights_record("none"), "stochastic": True}
        denoiser = MaskDenoiser(network, params.stretch)
        objective = DermoSegDiffObjective(denoiser, params, spec.num_classes)
        super().__init__(network, spec, about, objective)
        self.denoiser, self.params = denoiser, params
        self.maps = 1 if spec.num_classes == 2 else spec.num_classes
        self.sampler = MaskSampler(objective.process.respaced(params.steps), params.sampler, params.clip)

    @torch.no_grad()
    def predict(self, image: Tensor, num_samples: int = 1) -> Tensor:
        """Return probabilities [B, S, K, H, W]; each of the S predictions is a mean over `samples` masks of its own."""
        size = self.params.samples
        ensembles = [self.mean_steps(image, range(first * size, (first + 1) * size)) for first in range(num_samples)]
        return torch.stack([list(one)[-1] for one in ensembles], 1)

    @torch.no_grad()
    def trajectory(self, image: Tensor) -> Tensor:
        """Return the first prediction after each sampling step [steps, B, K, H, W]."""
        return torch.stack(list(self.mean_steps(image, range(self.params.samples))))

    def mean_steps(self, image: Tensor, numbers: range) -> Iterator[Tensor]:
        """Yield probabilities [B, K, H, W] of the mean of the samples of these numbers, after each step."""
        self.objective.eval()
        prepared = self.denoiser.preprocess(image.to(self.network.mean.device))
        draws = [
            self.sampler.denoise_steps(self.denoiser, prepared, self.maps, noise.image_streams(image, n))
            for n in numbers
        ]
        for steps in zip(*draws, strict=True):
            mean = torch.stack([clean for _, _, clean in steps]).mean(0)
            yield _mask_denoiser.map_probabilities(self.network.restore_size(mean, image), self.params.threshold)

    @torch.no_grad()
    def heatmaps(self, image: Tensor) -> Tensor:
        """Return Grad-CAM [B, H, W] in [0, 1] of the foreground, halfway through sampling.

        It looks at the encoder's third level, EM_3 in the paper's Fig. 4 (the last one of a shallower network). The
        score is the clean map summed over the pixels predicted as foreground (the most probable tenth of the image
        where there are none).
        """
        self.objective.eval()
        prepared = self.denoiser.preprocess(image.to(self.network.mean.device))
        rngs = noise.image_streams(image, 0)
        levels = list(self.sampler.denoise_steps(self.denoiser, prepared, self.maps, rngs))
        k, noisy, _ = levels[len(levels) // 2]
        predicted = foreground_map(levels[-1][2])

        def score() -> Tensor:
            clean = self.sampler.predict_clean(self.denoiser, noisy, prepared, k)
            return (foreground_map(clean) * target_pixels(predicted)).sum()

        block = self.network.network.heatmap_block
        heat = grad_cam(block, score, (prepared.shape[-2], prepared.shape[-1]))
        return heat[..., : image.shape[-2], : image.shape[-1]]

    def augment(self, train: ImageSet) -> Augment | None:
        """Return flips and quarter turns, the five changes that the paper names, or nothing."""
        return {"dihedral": dihedral, "paper": five_changes, "none": None}[self.params.augmentation]


def foreground_map(x: Tensor) -> Tensor:
    """Return the map of any foreground class [B, H, W] of maps [B, M, H, W], above 0 where one is predicted."""
    return x[:, 0] if x.shape[1] == 1 else -x[:, 0]


def target_pixels(foreground: Tensor) -> Tensor:
    """Return the pixels [B, H, W] above 0; of an image without any, the highest tenth."""
    highest = foreground >= foreground.flatten(1).quantile(0.9, dim=1)[:, None, None]
    inside = foreground > 0
    return torch.where(inside.flatten(1).any(1)[:, None, None], inside, highest)
