"""A denoiser of masks conditioned on an image, and the sampling steps from noise to a mask (DermoSegDiff).

A mask of two classes is one map of -1 and 1; with more classes there is one map per class, background included.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.diffusion.process import Process
from pipeline.diffusion.reverse import CleanPrediction, Method, reverse
from pipeline.diffusion.schedule import at_least_float32, noise_of
from pipeline.methods.segmenters._supervised import Preprocessed, min_max_normalize


class MaskDenoiser(nn.Module):
    """The network behind its preprocessing."""

    def __init__(self, network: Preprocessed, stretch: bool) -> None:
        super().__init__()
        self.network, self.stretch = network, stretch

    def preprocess(self, image: Tensor) -> Tensor:
        """Pad images [B, C, H, W] to the stride, each normalised to [0, 1] if asked for."""
        return self.network.preprocess(min_max_normalize(image) if self.stretch else image)

    def forward(self, noisy: Tensor, prepared: Tensor, timesteps: Tensor) -> Tensor:
        """Return the network's output for noisy masks [B, M, h, w], preprocessed images and training timesteps [B]."""
        return at_least_float32(self.network.network(noisy, prepared, timesteps))


def one_hot_maps(mask: Tensor, num_classes: int) -> Tensor:
    """Convert label maps [B, H, W] to maps of 0 and 1 [B, M, H, W]; with two classes of the foreground alone."""
    maps = F.one_hot(mask, num_classes).movedim(-1, 1)
    return (maps[:, 1:] if num_classes == 2 else maps).float()


def encode_maps(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Encode maps of 0 and 1 as -1 and 1, padded at the lower and right border up to `size` by repetition."""
    height, width = maps.shape[-2:]
    return F.pad(2 * maps - 1, (0, size[1] - width, 0, size[0] - height), mode="replicate")


def map_probabilities(x: Tensor, threshold: float = 0.0) -> Tensor:
    """Convert maps [B, M, H, W] around -1 and 1 to probabilities [B, K, H, W]; with two classes `threshold` is 0.5."""
    if x.shape[1] == 1:
        foreground = ((x - threshold + 1) / 2).clamp(0, 1)
        return torch.cat([1 - foreground, foreground], 1)
    shares = ((x + 1) / 2).clamp(1e-6, 1)
    return shares / shares.sum(1, keepdim=True)


@dataclass(frozen=True)
class MaskSampler:
    """Sample a mask from noise in as many steps as the process has."""

    process: Process
    method: Method
    clip: bool  # clip each step's clean map to [-1, 1]

    def denoise_steps(
        self, denoiser: MaskDenoiser, prepared: Tensor, maps: int, rngs: Sequence[torch.Generator]
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield level k [B], the noisy maps and the predicted clean ones [B, M, h, w]; the last are the result."""

        def predict(x: Tensor, k: Tensor) -> CleanPrediction:
            clean = self.predict_clean(denoiser, x, prepared, k)
            return (clean.clamp(-1, 1) if self.clip else clean), None

        start = noise_of(rngs, (maps, *prepared.shape[-2:])).to(prepared.device)
        return reverse(self.process, start, rngs, predict, self.method)

    def predict_clean(self, denoiser: MaskDenoiser, x: Tensor, prepared: Tensor, k: Tensor) -> Tensor:
        """Predict the clean maps from noisy ones at level k [B], before clipping to -1 and 1."""
        predicted = denoiser(x, prepared, self.process.indices.to(x.device)[k])
        return self.process.predict_x0(predicted, x, k)
