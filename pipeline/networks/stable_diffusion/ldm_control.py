"""A ControlNet and its trained decoder in the LDM layout of Siamese-Diffusion's released checkpoint."""

from typing import Literal

import numpy as np
import torch
from diffusers import ControlNetModel
from torch import Tensor

from pipeline.networks.stable_diffusion import ldm_keys, sd15
from pipeline.networks.stable_diffusion.dense_hint_input import DenseHintInput
from pipeline.networks.stable_diffusion.sd15 import Layout
from pipeline.networks.stable_diffusion.weight_file import Shapes

Hint = Literal["dense", "sparse"]
DENSE_MARK = ldm_keys.CONTROL + "input_hint_block.0.initial_conv.weight"


def empty(layout: Layout, hint: Hint) -> ControlNetModel:
    """The ControlNet of a base with the dense or the stock hint input, on the meta device."""
    factor = 2 ** (len(layout.vae["block_out_channels"]) - 1)
    stock = ((16, 32, 96) + (256,) * factor.bit_length())[: factor.bit_length()]  # one width per halving, one before
    with torch.device("meta"):
        network = ControlNetModel.from_unet(sd15.empty_unet(layout), "rgb", stock, load_weights_from_unet=False)
        if hint == "dense":
            network.controlnet_cond_embedding = DenseHintInput(layout.unet["block_out_channels"][0], factor)
    return network


def hint_of(found: Shapes) -> Hint:
    """Which hint input a checkpoint holds."""
    return "dense" if DENSE_MARK in found else "sparse"


def buffers(tokens: int) -> dict[str, Tensor]:
    """What LDM keeps beside the weights: the noise schedule in 12 tables of 1000, and the places 0, 1, ... of tokens.

    The posterior is that of Ho et al. 2020 with v_posterior = 0; computed in 64 bits and kept in 32, as LDM does.
    """
    config = sd15.SCHEDULE
    ends = config["beta_start"] ** 0.5, config["beta_end"] ** 0.5
    betas = torch.linspace(*ends, config["num_train_timesteps"], dtype=torch.float64).numpy() ** 2
    left = np.cumprod(1 - betas)
    before = np.append(1.0, left[:-1])
    variance = betas * (1 - before) / (1 - left)
    tables = {
        "betas": betas,
        "alphas_cumprod": left,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(left),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - left),
        "log_one_minus_alphas_cumprod": np.log(1 - left),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / left),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / left - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": betas * np.sqrt(before) / (1 - left),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - betas) / (1 - left),
    }
    places = {ldm_keys.POSITIONS: torch.arange(tokens)[None]}
    return {name: torch.tensor(table, dtype=torch.float32) for name, table in tables.items()} | places
