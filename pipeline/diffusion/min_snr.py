"""Min-SNR weights of a denoiser's loss (Hang et al. 2023, "Efficient Diffusion Training via Min-SNR Weighting")."""

import torch
from torch import Tensor

from pipeline.diffusion.schedule import Schedule


def min_snr_weights(schedule: Schedule, timesteps: Tensor, gamma: float) -> Tensor:
    """Return the weight of each sample's squared error at its timestep [B], in the precision of the schedule.

    In terms of the clean image the weight is min(SNR, gamma) with SNR = abar / (1 - abar), for every prediction: a
    squared error of the noise is SNR times one of the image, a squared error of the velocity SNR + 1 times.
    """
    alphas = schedule.products(timesteps.device, schedule.alphas_cumprod.dtype)[timesteps]
    ratio = alphas / (1 - alphas)
    clipped = torch.clamp(ratio, max=gamma)
    if schedule.prediction == "epsilon":
        return clipped / ratio
    return clipped / (ratio + 1) if schedule.prediction == "v_prediction" else clipped
