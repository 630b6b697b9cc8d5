"""The model of masks: a U-Net that clears noisy distances, given the ellipses that the regions are to resemble.

It predicts the clean distances (x0), trained with the cosine schedule (Nichol & Dhariwal 2021) and min-SNR weights
(Hang et al. 2023), and is sampled by DDIM without noise (Song et al. 2021).
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.core import seeding
from pipeline.core.progress import track
from pipeline.diffusion import betas
from pipeline.diffusion.min_snr import min_snr_weights
from pipeline.diffusion.process import Process
from pipeline.diffusion.reverse import reverse
from pipeline.diffusion.schedule import noise_of
from pipeline.networks.unets.guided_unet import GuidedShape, GuidedUNet

BATCH = 32
RATE = 2e-3  # highest learning rate of the one-cycle schedule
LEVELS = 1000  # timesteps of training
STEPS = 15  # of DDIM
GAMMA = 5.0  # of the min-SNR weights
FLAGS = 4  # per label, beside its ellipse


class MaskDenoiser(nn.Module):
    """Distances of noisy masks -> distances of clean ones; blocks of 2 x 2 distances are channels of the U-Net."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        shape = GuidedShape(8 * labels, 4 * labels, width, (1, 2, 2), blocks=1, attention=(4,), groups=8)
        self.network = GuidedUNet(shape)
        self.flags = nn.Linear(FLAGS * labels, shape.time_width)

    def forward(self, noisy: Tensor, time: Tensor, hints: Tensor, flags: Tensor) -> Tensor:
        """Noisy distances and ellipses [B, L, G, G], timesteps [B], flags [B, 4 L] -> clean distances [B, L, G, G]."""
        x = F.pixel_unshuffle(torch.cat([noisy, hints], 1), 2)
        return hints + F.pixel_shuffle(self.network(x, time, self.flags(flags)), 2)


def operations(width: int, grid: int, labels: int, steps: int) -> tuple[float, float]:
    """Count the operations of a training, forward and backward, and of drawing one mask, on the meta device."""
    with torch.device("meta"):
        model, maps = MaskDenoiser(labels, width), torch.empty(1, labels, grid, grid)
        time, flags = torch.zeros(1, dtype=torch.long), torch.empty(1, FLAGS * labels)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(maps, time, maps, flags)
    forward = counter.get_total_flops()
    return 3.0 * forward * BATCH * steps, float(forward * STEPS)


def process() -> Process:
    """Return the diffusion process of the training."""
    return Process.of(betas.cosine(LEVELS), "x0")


@torch.enable_grad()
def train(model: MaskDenoiser, fields: Tensor, hints: Tensor, flags: Tensor, steps: int, stream: str) -> None:
    """Train on distances and ellipses [N, L, G, G] and flags [N, 4 L]; every draw comes from the named stream."""
    diffusion = process()
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1)
    for rows, k, noise in track(_draws(fields, steps, stream), "learn masks", steps):
        optimizer.zero_grad()
        loss(model, diffusion, fields[rows], noise, k, hints[rows], flags[rows]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def loss(
    model: nn.Module, diffusion: Process, clean: Tensor, noise: Tensor, k: Tensor, hints: Tensor, flags: Tensor
) -> Tensor:
    """Return the mean over a batch of min(SNR, GAMMA) times the mean squared error of the clean distances."""
    predicted = model(diffusion.q_sample(clean, noise, k), k, hints, flags)
    errors = (predicted - clean).square().mean((1, 2, 3))
    return (min_snr_weights(diffusion.schedule, k, GAMMA).to(errors) * errors).mean()


def _draws(fields: Tensor, steps: int, stream: str) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield which rows, timesteps and noise the steps take."""
    rng = seeding.torch_rng(stream, "training")
    for _ in range(steps):
        rows = torch.randint(len(fields), (BATCH,), generator=rng)
        k = torch.randint(LEVELS, (BATCH,), generator=rng)
        yield rows, k, torch.randn(BATCH, *fields.shape[1:], generator=rng)


@torch.no_grad()
def sample(model: MaskDenoiser, hints: Tensor, flags: Tensor, streams: list[str]) -> Tensor:
    """Draw distances [B, L, G, G], the noise of each from the stream of its own."""
    few = process().respaced(STEPS)
    noisy = noise_of([seeding.torch_rng(stream) for stream in streams], tuple(hints.shape[1:]))

    def predict(x: Tensor, k: Tensor) -> tuple[Tensor, None]:
        return model(x, few.indices[k], hints, flags).clamp(-1, 1), None

    *_, (_, _, clean) = reverse(few, noisy, [], predict, "ddim")
    return clean
