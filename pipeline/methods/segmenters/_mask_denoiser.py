"""A denoiser of masks that is led by an image, and the steps from noise to a mask (DermoSegDiff).

A mask of two classes is one map of -1 and 1; of more classes there is a map each, background included.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.diffusion.process import Process
from pipeline.diffusion.reverse import Found, Method, reverse
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.methods.segmenters._supervised import Preprocessed, stretched


class Denoiser(nn.Module):
    """The network behind its preprocessing."""

    def __init__(self, network: Preprocessed, stretch: bool) -> None:
        super().__init__()
        self.network, self.stretch = network, stretch

    def prepared(self, image: Tensor) -> Tensor:
        """What the network sees of images [B, C, H, W]: padded to its stride, each stretched to [0, 1] if asked."""
        return self.network.prepared(stretched(image) if self.stretch else image)

    def forward(self, noisy: Tensor, prepared: Tensor, timesteps: Tensor) -> Tensor:
        """Noisy masks [B, M, h, w], prepared images and timesteps of training [B] -> what the process predicts."""
        return at_least_float32(self.network.network(noisy, prepared, timesteps))


def maps_of(mask: Tensor, num_classes: int) -> Tensor:
    """Label maps [B, H, W] -> maps of 0 and 1 [B, M, H, W]: of the foreground alone where there are two classes."""
    maps = F.one_hot(mask, num_classes).movedim(-1, 1)
    return (maps[:, 1:] if num_classes == 2 else maps).float()


def coded(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps of 0 and 1 as -1 and 1, repeated at the lower and right border up to `size`."""
    height, width = maps.shape[-2:]
    return F.pad(2 * maps - 1, (0, size[1] - width, 0, size[0] - height), mode="replicate")


def chances(x: Tensor, threshold: float = 0.0) -> Tensor:
    """Maps [B, M, H, W] around -1 and 1 -> probabilities [B, K, H, W]; of two classes 0.5 is where x is `threshold`."""
    if x.shape[1] == 1:
        found = ((x - threshold + 1) / 2).clamp(0, 1)
        return torch.cat([1 - found, found], 1)
    found = ((x + 1) / 2).clamp(1e-6, 1)
    return found / found.sum(1, keepdim=True)


@dataclass(frozen=True)
class Sampler:
    """From noise to a mask in as many steps as the process has."""

    process: Process
    method: Method
    clip: bool  # each step's clean map to [-1, 1]

    def cleaner(
        self, denoiser: Denoiser, prepared: Tensor, maps: int, rngs: Sequence[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Level k [B], the noisy maps and the clean ones [B, M, h, w] they are taken for; the last are the result."""

        def find(x: Tensor, k: Tensor) -> Found:
            clean = self.unclipped(denoiser, x, prepared, k)
            return (clean.clamp(-1, 1) if self.clip else clean), None

        start = noise_of(rngs, (maps, *prepared.shape[-2:])).to(prepared.device)
        return reverse(self.process, start, rngs, find, self.method)

    def unclipped(self, denoiser: Denoiser, x: Tensor, prepared: Tensor, k: Tensor) -> Tensor:
        """What the noisy maps at level k [B] are taken for, before it is cut off at -1 and 1."""
        predicted = denoiser(x, prepared, self.process.indices.to(x.device)[k])
        return self.process.predict_x0(predicted, x, k)
