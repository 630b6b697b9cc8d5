"""The Siamese-Diffusion step as its paper tells it: deep copies, every pass written out, nothing shared or saved."""

import copy
from typing import Any

import torch
from torch import Tensor


def step(
    unet: Any, controlnet: Any, alphas: Tensor, z0: Tensor, eps: Tensor, t: Tensor, text: Tensor, mask: Tensor,
    image: Tensor, k: int, n: int, w_c: float = 1.0, w_a: float = 1.0, t_tau: int = 200, velocity: bool = False,
) -> Tensor:  # fmt: skip
    """Loss of one batch; gradients flow into unet (decoder) and controlnet.

    The networks predict eps or, with `velocity`, v = sqrt(abar) eps - sqrt(1 - abar) z0; then what is called eps_m,
    eps_x and eps_a here are velocities.
    """
    abar = alphas[t].view(-1, 1, 1, 1)
    zt = abar.sqrt() * z0 + (1 - abar).sqrt() * eps
    target = abar.sqrt() * eps - (1 - abar).sqrt() * z0 if velocity else eps
    eps_m = predict(unet, zt, t, text, residuals(controlnet, zt, t, text, mask))

    controlnet_copy, unet_copy = copy.deepcopy(controlnet), copy.deepcopy(unet)
    with torch.no_grad():
        c_m = residuals(controlnet_copy, zt, t, text, mask)
    c_i = residuals(controlnet, zt, t, text, image)
    mix = [a + (k / n) * b for a, b in zip(c_m, c_i, strict=True)]
    eps_x = predict(unet_copy, zt, t, text, mix)

    per_sample = mse(eps_m, target) + mse(eps_x, target) + w_c * mse(eps_m, eps_x.detach())
    if k > n / 3:
        if velocity:
            z0_new = (abar.sqrt() * zt - (1 - abar).sqrt() * eps_x).detach()
            target = abar.sqrt() * eps - (1 - abar).sqrt() * z0_new
        else:
            z0_new = (zt - (1 - abar).sqrt() * eps_x) / abar.sqrt()
        zt_new = (abar.sqrt() * z0_new + (1 - abar).sqrt() * eps).detach()
        eps_a = predict(unet, zt_new, t, text, residuals(controlnet, zt_new, t, text, mask))
        per_sample = per_sample + w_a * (t <= t_tau).to(z0.dtype) * mse(eps_a, target)
    return per_sample.mean()


def image_diffusion(
    unet: Any, controlnet: Any, zt: Tensor, t: Tensor, empty: Tensor, text: Tensor, mask: Tensor, image: Tensor,
    w_i: float, scale: float,
) -> Tensor:  # fmt: skip
    """The guided prediction of the Image-Diffusion: both hints with the empty prompt, and again with the prompt."""
    predictions = []
    for words in (empty, text):
        c_m, c_i = residuals(controlnet, zt, t, words, mask), residuals(controlnet, zt, t, words, image)
        predictions.append(predict(unet, zt, t, words, [a + w_i * b for a, b in zip(c_m, c_i, strict=True)]))
    return predictions[0] + scale * (predictions[1] - predictions[0])


def residuals(controlnet: Any, zt: Tensor, t: Tensor, text: Tensor, hint: Tensor) -> list[Tensor]:
    down, mid = controlnet(zt, t, text, hint, return_dict=False)
    return [*down, mid]


def predict(unet: Any, zt: Tensor, t: Tensor, text: Tensor, control: list[Tensor]) -> Tensor:
    return unet(
        zt, t, text, down_block_additional_residuals=tuple(control[:-1]), mid_block_additional_residual=control[-1]
    ).sample


def mse(a: Tensor, b: Tensor) -> Tensor:
    return ((a - b) ** 2).flatten(1).mean(1)
