"""A network that predicts a mask from its noisy version and the image, and the sampling steps from noise to a mask.

Masks are one-hot maps 2 y - 1 in [-1, 1], background included (ImgX-DiffSeg, Fu et al. 2023).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.diffusion.embedding import PERIOD
from pipeline.diffusion.process import Process
from pipeline.diffusion.reverse import CleanPrediction, Method, reverse
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.methods.segmenters._supervised import min_max_normalize
from pipeline.networks.unets.first_recycling_unet import FirstRecyclingUNet
from pipeline.networks.unets.recycling_unet import RecyclingUNet

SMALLEST = 1e-5  # probability below which no x0 estimate is taken


@dataclass(frozen=True)
class MaskEstimate:
    """The prediction of one forward pass, all [B, K, *spatial]."""

    output: Tensor  # of the network
    logits: Tensor
    x0: Tensor  # in [-1, 1] where masks are predicted; unbounded where noise is


class RecyclingDenoiser(nn.Module):
    """The network with the encoding of its inputs and outputs."""

    def __init__(
        self,
        network: RecyclingUNet | FirstRecyclingUNet,
        tau: Literal["fraction", "index"] | Tensor,
        clip: bool,
        stretch: bool,
        self_conditioned: bool,
    ) -> None:
        super().__init__()
        self.network, self.tau, self.clip = network, tau, clip
        self.stretch, self.self_conditioned = stretch, self_conditioned

    def forward(
        self, image: Tensor, noisy: Tensor, k: Tensor, process: Process, previous: Tensor | None
    ) -> MaskEstimate:
        """Predict the mask of `noisy` at positions k [B] of a process; `previous` is the last prediction, in [0, 1]."""
        inputs = [
            min_max_normalize(image, per_channel=True) if self.stretch else image,
            to_unit_range(noisy) if self.clip else noisy,
        ]
        if self.self_conditioned:
            inputs.append(torch.zeros_like(noisy) if previous is None else previous)
        output = at_least_float32(self.network(torch.cat(inputs, 1), self.fraction(k, process)))
        return estimate_mask(output, noisy, k, process)

    def fraction(self, k: Tensor, process: Process) -> Tensor:
        """Return the time in (0, 1] of positions k as a fraction of the training steps, or (index) of the process's.

        Where `tau` lists the noise levels of training, it is the number of the level among them, over 10,000.
        """
        if isinstance(self.tau, Tensor):
            return torch.searchsorted(self.tau.to(k.device), process.indices.to(k.device)[k]) / PERIOD
        if self.tau == "index":
            return (k + 1) / len(process)
        return (process.indices.to(k.device)[k] + 1) / process.steps


def estimate_mask(output: Tensor, noisy: Tensor, k: Tensor, process: Process) -> MaskEstimate:
    """Return the mask that an output of the network stands for, in float32 or better."""
    if process.prediction == "x0":
        return MaskEstimate(output, output, 2 * output.softmax(1) - 1)
    x0 = process.predict_x0(output, noisy, k)
    return MaskEstimate(output, ((x0 + 1) / 2).clamp(SMALLEST, 1).log(), x0)


def one_hot(mask: Tensor, num_classes: int, like: Tensor) -> Tensor:
    """Encode label maps [B, *spatial] as 2 y - 1 [B, K, *spatial], of the dtype of `like`."""
    return 2 * F.one_hot(mask, num_classes).movedim(-1, 1).to(like.dtype) - 1


def to_unit_range(x: Tensor) -> Tensor:
    """Map [-1, 1] to [0, 1], clipped."""
    return (x.clamp(-1, 1) + 1) / 2


@dataclass(frozen=True)
class RecyclingSampler:
    """Sample a mask from noise in as many steps as the process has."""

    process: Process
    num_classes: int
    method: Method = "ddim"
    variance: Literal["small", "large"] = "small"

    def steps(self, denoiser: RecyclingDenoiser, image: Tensor, rngs: Sequence[torch.Generator]) -> Iterator[Tensor]:
        """Yield the log-probabilities [B, K, *spatial] of the mask after each step; the last is the result."""
        last: MaskEstimate | None = None

        def predict_clean(noisy: Tensor, k: Tensor) -> CleanPrediction:
            nonlocal last
            previous = None if last is None else to_unit_range(last.x0)
            estimate = last = denoiser(image, noisy, k, self.process, previous)
            return estimate.x0, self.process.log_variance_large(k, estimate.x0) if self.variance == "large" else None

        start = noise_of(rngs, (self.num_classes, *image.shape[2:])).to(image)
        for _ in reverse(self.process, start, rngs, predict_clean, self.method):
            assert last is not None
            yield last.logits.log_softmax(1)
