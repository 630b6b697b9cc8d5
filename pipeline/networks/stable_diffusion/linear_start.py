"""Initial weights of a small autoencoder: a linear colour pyramid, from which it learns detail.

From random weights a few hundred steps teach brightness only, colours come last. Here three latents begin as the
principal colours of the training images, averaged over a latent's pixels, and the decoder paints them back. Each colour
travels as a pair (x, -x) beside a constant pair (K, -K) in a group of its own: the pair survives SiLU exactly, because
SiLU(x) - SiLU(-x) = x, and the constants keep the group norm's scale nearly fixed. Every weight is trained afterwards.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

GROUPS = 4  # of every norm; three carry a colour each
COLOURS = 3
K = 3.0  # constant beside colours of unit variance
LOG_VARIANCE = -6.0  # of the posterior: a random start would drown the latents in noise


@dataclass(frozen=True)
class Palette:
    """Principal colours of a set of images with values in [-1, 1]."""

    mean: Tensor  # [3]
    axes: Tensor  # [3, 3], one colour per row
    deviation: Tensor  # [3]

    @classmethod
    def of(cls, images: Tensor) -> "Palette":
        """Compute the palette of images [N, 3, H, W]."""
        pixels = images.permute(1, 0, 2, 3).flatten(1).double()
        values, axes = torch.linalg.eigh(torch.cov(pixels))
        deviation = values.clamp(min=1e-6).sqrt()
        return cls(pixels.mean(1).float(), axes.T.contiguous().float(), deviation.float())


@torch.no_grad()
def start_linear(vae: AutoencoderKL, palette: Palette) -> None:
    """Set the weights of an autoencoder whose norms have GROUPS groups and whose widths are multiples of 16."""
    for part in (vae.encoder, vae.decoder):
        for name, module in part.named_modules():
            if isinstance(module, nn.Conv2d) and name.endswith("conv2"):  # the end of a residual branch
                nn.init.zeros_(module.weight)
                nn.init.zeros_(_bias(module))
            elif isinstance(module, nn.Conv2d) and name.endswith("conv_shortcut"):
                _carry(module, 1.0)
    _start_encoder(vae, palette)
    _start_decoder(vae, palette)


def _start_encoder(vae: AutoencoderKL, palette: Palette) -> None:
    encoder: Any = vae.encoder  # diffusers gives its blocks no types
    colours = palette.axes / palette.deviation[:, None]
    _enter(encoder.conv_in, colours, -colours @ palette.mean)
    for block in encoder.down_blocks:
        for sampler in block.downsamplers or ():
            _carry(sampler.conv, torch.tensor([[0.25, 0.25, 0], [0.25, 0.25, 0], [0, 0, 0]]))
    width = encoder.conv_norm_out.num_channels
    _restore_scale(encoder.conv_norm_out, 2 * K**2 * GROUPS / width)
    nn.init.zeros_(encoder.conv_out.weight[:COLOURS])
    for k in range(COLOURS):
        _read(encoder.conv_out, k, k, width, 1.0)
    latents = encoder.conv_out.out_channels // 2
    nn.init.zeros_(_bias(encoder.conv_out)[:COLOURS])
    nn.init.zeros_(encoder.conv_out.weight[latents:])
    nn.init.constant_(_bias(encoder.conv_out)[latents:], LOG_VARIANCE)
    _identity(vae.quant_conv)


def _start_decoder(vae: AutoencoderKL, palette: Palette) -> None:
    decoder: Any = vae.decoder
    _identity(vae.post_quant_conv)
    _enter(decoder.conv_in, torch.eye(COLOURS, decoder.conv_in.in_channels), torch.zeros(COLOURS))
    for block in decoder.up_blocks:
        for sampler in block.upsamplers or ():
            _carry(sampler.conv, 1.0)
    width = decoder.conv_norm_out.num_channels
    _restore_scale(decoder.conv_norm_out, 2 * (K**2 + 1) * GROUPS / width)
    nn.init.zeros_(decoder.conv_out.weight)
    _bias(decoder.conv_out).copy_(palette.mean)
    for channel in range(COLOURS):
        for k in range(COLOURS):
            _read(decoder.conv_out, channel, k, width, float(palette.axes[k, channel] * palette.deviation[k]))


def _enter(conv: nn.Conv2d, colours: Tensor, offset: Tensor) -> None:
    """Let group k of the outputs begin with colour k, its negative, K and -K."""
    for k in range(COLOURS):
        place = k * conv.out_channels // GROUPS
        nn.init.zeros_(conv.weight[place : place + 4])
        conv.weight[place, :, 1, 1], conv.weight[place + 1, :, 1, 1] = colours[k], -colours[k]
        _bias(conv)[place : place + 4] = torch.stack([offset[k], -offset[k], torch.tensor(K), torch.tensor(-K)])


def _carry(conv: nn.Conv2d, kernel: Tensor | float) -> None:
    """Pass the first four channels of each colour's group unchanged, weighted by a kernel (a number: its middle)."""
    for k in range(COLOURS):
        source, target = k * conv.in_channels // GROUPS, k * conv.out_channels // GROUPS
        for j in range(4):
            nn.init.zeros_(conv.weight[target + j])
            _bias(conv)[target + j] = 0
            if isinstance(kernel, Tensor):
                conv.weight[target + j, source + j] = kernel
            else:
                middle = conv.kernel_size[0] // 2
                conv.weight[target + j, source + j, middle, middle] = kernel


def _restore_scale(norm: nn.GroupNorm, variance: float) -> None:
    """Undo the division by a group's standard deviation for the carried channels."""
    for k in range(COLOURS):
        place = k * norm.num_channels // GROUPS
        norm.weight[place : place + 4] = variance**0.5


def _read(conv: nn.Conv2d, output: int, colour: int, width: int, weight: float) -> None:
    place = colour * width // GROUPS
    conv.weight[output, place, 1, 1], conv.weight[output, place + 1, 1, 1] = weight, -weight


def _identity(conv: nn.Conv2d | None) -> None:
    assert conv is not None
    nn.init.dirac_(conv.weight)
    nn.init.zeros_(_bias(conv))


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
