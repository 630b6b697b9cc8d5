"""A network that finds a mask in its noisy version and the image, and the steps that lead it from noise to a mask.

Masks are one-hot maps 2 y - 1 in [-1, 1], background included (ImgX-DiffSeg, Fu et al. 2023).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.diffusion.process import Process
from pipeline.diffusion.reverse import Found, Method, reverse
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.networks.unets.recycling_unet import RecyclingUNet

SMALLEST = 1e-5  # probability below which no x0 estimate is taken


@dataclass(frozen=True)
class Estimate:
    """What one pass tells of the mask, all [B, K, *spatial]."""

    output: Tensor  # of the network
    logits: Tensor
    x0: Tensor  # in [-1, 1] where masks are predicted; of predicted noise it may lie anywhere


class Denoiser(nn.Module):
    """The network with the coding of its inputs and outputs."""

    def __init__(
        self,
        network: RecyclingUNet,
        tau: Literal["fraction", "index"],
        clip: bool,
        stretch: bool,
        self_conditioned: bool,
    ) -> None:
        super().__init__()
        self.network, self.tau, self.clip = network, tau, clip
        self.stretch, self.self_conditioned = stretch, self_conditioned

    def forward(self, image: Tensor, noisy: Tensor, k: Tensor, process: Process, before: Tensor | None) -> Estimate:
        """The mask of `noisy` at positions k [B] of a process; `before`: the last prediction, in [0, 1]."""
        seen = [stretched(image) if self.stretch else image, shown(noisy) if self.clip else noisy]
        if self.self_conditioned:
            seen.append(torch.zeros_like(noisy) if before is None else before)
        output = at_least_float32(self.network(torch.cat(seen, 1), self.fraction(k, process)))
        return estimate(output, noisy, k, process)

    def fraction(self, k: Tensor, process: Process) -> Tensor:
        """Time in (0, 1] of positions k: of the steps of training, or (index) of those that the process has."""
        if self.tau == "index":
            return (k + 1) / len(process)
        return (process.indices.to(k.device)[k] + 1) / process.steps


def estimate(output: Tensor, noisy: Tensor, k: Tensor, process: Process) -> Estimate:
    """The mask that an output of the network means; in float32 or better."""
    if process.prediction == "x0":
        return Estimate(output, output, 2 * output.softmax(1) - 1)
    x0 = process.predict_x0(output, noisy, k)
    return Estimate(output, ((x0 + 1) / 2).clamp(SMALLEST, 1).log(), x0)


def one_hot(mask: Tensor, num_classes: int, like: Tensor) -> Tensor:
    """Label maps [B, *spatial] -> 2 y - 1 [B, K, *spatial], of the type of `like`."""
    return 2 * F.one_hot(mask, num_classes).movedim(-1, 1).to(like.dtype) - 1


def shown(x: Tensor) -> Tensor:
    """[-1, 1] to [0, 1], what lies beyond cut off."""
    return (x.clamp(-1, 1) + 1) / 2


def stretched(image: Tensor) -> Tensor:
    """Each channel of each image brought to [0, 1]; one of a single value becomes 0."""
    axes = tuple(range(2, image.ndim))
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    return (image - low) / (high - low).clamp(min=1e-6)


@dataclass(frozen=True)
class Sampler:
    """From noise to a mask in as many steps as the process has."""

    process: Process
    num_classes: int
    method: Method = "ddim"
    variance: Literal["small", "large"] = "small"

    def steps(self, denoiser: Denoiser, image: Tensor, rngs: Sequence[torch.Generator]) -> Iterator[Tensor]:
        """Log-probabilities [B, K, *spatial] of the mask that each step finds; the last is the result."""
        last: Estimate | None = None

        def find(noisy: Tensor, k: Tensor) -> Found:
            nonlocal last
            found = last = denoiser(image, noisy, k, self.process, None if last is None else shown(last.x0))
            return found.x0, self.process.log_variance_large(k, found.x0) if self.variance == "large" else None

        start = noise_of(rngs, (self.num_classes, *image.shape[2:])).to(image)
        for _ in reverse(self.process, start, rngs, find, self.method):
            assert last is not None
            yield last.logits.log_softmax(1)
