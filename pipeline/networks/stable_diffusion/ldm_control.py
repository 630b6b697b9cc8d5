"""A ControlNet and its trained decoder in the LDM layout of Siamese-Diffusion's released checkpoint."""

from typing import Literal

import numpy as np
import torch
from diffusers import ControlNetModel
from torch import Tensor

from pipeline.networks.stable_diffusion import ldm_keys, sd15
from pipeline.networks.stable_diffusion.dense_hint_input import DenseHintInput
from pipeline.networks.stable_diffusion.sd15 import PartConfigs
from pipeline.networks.stable_diffusion.weight_file import Shapes

Hint = Literal["dense", "sparse"]
DENSE_MARK = ldm_keys.CONTROL + "input_hint_block.0.initial_conv.weight"


def empty_controlnet(configs: PartConfigs, hint: Hint) -> ControlNetModel:
    """Build the ControlNet of a base with the dense or the stock hint input, on the meta device."""
    factor = 2 ** (len(configs.vae["block_out_channels"]) - 1)
    stock = ((16, 32, 96) + (256,) * factor.bit_length())[: factor.bit_length()]  # one width per halving, one before
    with torch.device("meta"):
        network = ControlNetModel.from_unet(sd15.empty_unet(configs), "rgb", stock, load_weights_from_unet=False)
        if hint == "dense":
            network.controlnet_cond_embedding = DenseHintInput(configs.unet["block_out_channels"][0], factor)
    return network


def hint_input_of(shapes: Shapes) -> Hint:
    """Return which hint input a checkpoint holds."""
    return "dense" if DENSE_MARK in shapes else "sparse"


def buffers(tokens: int) -> dict[str, Tensor]:
    """Return what LDM keeps beside the weights: the noise schedule in 12 tables of 1000, and token positions 0, 1, ...

    The posterior is that of Ho et al. 2020 with v_posterior = 0; computed in 64 bits and kept in 32, as LDM does.
    """
    config = sd15.SCHEDULE
    ends = config["beta_start"] ** 0.5, config["beta_end"] ** 0.5
    betas = torch.linspace(*ends, config["num_train_timesteps"], dtype=torch.float64).numpy() ** 2
    kept = np.cumprod(1 - betas)
    previous = np.append(1.0, kept[:-1])
    variance = betas * (1 - previous) / (1 - kept)
    tables = {
        "betas": betas,
        "alphas_cumprod": kept,
        "alphas_cumprod_prev": previous,
        "sqrt_alphas_cumprod": np.sqrt(kept),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - kept),
        "log_one_minus_alphas_cumprod": np.log(1 - kept),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / kept),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / kept - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(previous) / (1 - kept),
        "posterior_mean_coef2": (1 - previous) * np.sqrt(1 - betas) / (1 - kept),
    }
    positions = {ldm_keys.POSITIONS: torch.arange(tokens)[None]}
    return {name: torch.tensor(table, dtype=torch.float32) for name, table in tables.items()} | positions
