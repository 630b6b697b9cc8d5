"""The way from noise to x0, level by level (DDPM: Ho et al. 2020; DDIM without noise: Song et al. 2021)."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from pipeline.diffusion.process import Process
from pipeline.diffusion.schedule import noise_of

Method = Literal["ddim", "ddpm"]
CleanPrediction = tuple[Tensor, Tensor | None]  # x0, and the log-variance of a DDPM step, None: the small one


def reverse(
    process: Process,
    noisy: Tensor,
    rngs: Sequence[torch.Generator],
    predict: Callable[[Tensor, Tensor], CleanPrediction],
    method: Method,
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield level k [B], its noisy x [B, ...] and the x0 that `predict(x, k)` returns; the last x0 is the result.

    `noisy` is the sample of the noisiest level. The cleanest level adds no noise: both methods end in their x0. DDPM
    draws from one random stream per sample.
    """
    for level in reversed(range(len(process))):
        k = torch.full((len(noisy),), level, device=noisy.device)
        x0, log_variance = predict(noisy, k)
        yield k, noisy, x0
        if level == 0:
            return
        if method == "ddim":
            noisy = process.ddim_step(x0, noisy, k)
        else:
            fresh = noise_of(rngs, tuple(noisy.shape[1:])).to(noisy)
            noisy = process.ddpm_step(x0, noisy, k, fresh, log_variance)
