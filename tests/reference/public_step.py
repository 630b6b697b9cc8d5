"""A training step that does what the public code does: nothing is kept between steps, activations are recomputed."""

from typing import Any

import torch
from torch import Tensor

from tests.reference import siamese_literal


def switch_recompute_on(unet: Any, controlnet: Any) -> None:
    """Checkpoints every residual and every transformer block, as `use_checkpoint: True` of its configuration."""
    unet.enable_gradient_checkpointing()
    controlnet.enable_gradient_checkpointing()


def step(
    vae: Any, tower: Any, unet: Any, controlnet: Any, alphas: Tensor, image: Tensor, tokens: Tensor, mask: Tensor,
    eps: Tensor, t: Tensor, k: int, n: int,
) -> Tensor:  # fmt: skip
    """Loss of one batch: image [B, 3, H, W] and mask hint in [0, 1]; autoencoder and text tower run in every step.

    The rest (second pass of the ControlNet, deep copies, augmentation of the whole batch) is the literal step.
    """
    with torch.no_grad():
        z0 = vae.encode(image * 2 - 1).latent_dist.sample() * vae.config["scaling_factor"]
        text = tower(tokens)[0]
    return siamese_literal.step(unet, controlnet, alphas, z0, eps, t, text, mask, image, k, n)
