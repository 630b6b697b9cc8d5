"""A U-Net of diffusers in its parts: encoder and middle, decoder, control branch.

Control enters at the skips and the middle only, so all hints of one noisy latent share the encoder's output. Of every
family of Stable Diffusion a prompt is one tensor [B, L, D] (added_conditions.py).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from pipeline.networks.stable_diffusion.added_conditions import embed_added, states_of

Encoded = tuple[Tensor, tuple[Tensor, ...], Tensor]  # hidden state, skips, time embedding


def encode(
    unet: UNet2DConditionModel, noisy: Tensor, timesteps: Tensor, text: Tensor, features: Sequence[Tensor] = ()
) -> Encoded:
    """Run the encoder and the middle block, before any control; a bfloat16 encoder computes in bfloat16 throughout.

    `features` of an adapter are added, one per level, to the level's last output before it is halved (Mou et al. 2023).
    """
    dtype = unet.conv_in.weight.dtype
    if dtype == noisy.dtype:
        return _encode(unet, noisy, timesteps, text, features)
    device = noisy.device.type
    with torch.autocast(device, enabled=False):
        features = [feature.to(dtype) for feature in features]
        hidden, skips, embedding = _encode(unet, noisy.to(dtype), timesteps, text, features)
    if torch.is_autocast_enabled(device):
        return hidden, skips, embedding
    return hidden.to(noisy.dtype), tuple(skip.to(noisy.dtype) for skip in skips), embedding.to(noisy.dtype)


def _encode(
    unet: UNet2DConditionModel, noisy: Tensor, timesteps: Tensor, text: Tensor, features: Sequence[Tensor]
) -> Encoded:
    embedding = embed_time(unet, timesteps, noisy, text)
    states = states_of(unet, text)
    if noisy.dtype in (torch.bfloat16, torch.float16):
        states = states.to(noisy.dtype)
    hidden, skips = _descend(unet, unet.conv_in(noisy), embedding, states, features)
    return hidden, skips, embedding


def no_control(encoded: Encoded) -> list[Tensor]:
    """Return residuals of zero, which change nothing."""
    hidden, skips, _ = encoded
    return [hidden.new_zeros(()) for _ in (*skips, hidden)]


def embed_time(
    network: UNet2DConditionModel | ControlNetModel, timesteps: Tensor, noisy: Tensor, text: Tensor
) -> Tensor:
    """Return the embedding [B, E] of timesteps and of what the prompt adds, in the precision of the noisy latents."""
    dtype = network.time_embedding.linear_1.weight.dtype
    embedding, added = network.time_embedding(network.time_proj(timesteps).to(dtype)), embed_added(network, text)
    return (embedding if added is None else embedding + added).to(noisy.dtype)


class UNetDecoder(nn.Module):
    """The decoder of a U-Net: up blocks, norm and output convolution; shares the U-Net's weights."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.recompute = (
            False  # gradient checkpointing: keep the inputs of blocks only, and recompute the rest for the gradient
        )
        self.has_added = getattr(unet, "add_embedding", None) is not None  # the prompt's last row is not attended to
        self.up_blocks, self.conv_out = unet.up_blocks, unet.conv_out
        self.conv_norm_out = cast(nn.GroupNorm, unet.conv_norm_out)  # every Stable Diffusion has one

    def forward(self, encoded: Encoded, control: list[Tensor], text: Tensor, detached: bool = False) -> Tensor:
        """Predict [B, C, h, w]; `control` has one residual per skip and, last, one for the middle.

        `detached`: the weights are constants and get no gradient; the inputs do.
        """
        hidden, skips, embedding = encoded
        hidden = hidden + control[-1]
        remaining = [skip + c for skip, c in zip(skips, control[:-1], strict=True)]
        text = text[:, :-1] if self.has_added else text
        for block in self.up_blocks:
            count = len(cast(nn.ModuleList, block.resnets))
            block_skips, remaining = tuple(remaining[-count:]), remaining[:-count]
            size = remaining[-1].shape[2:] if remaining else None
            extra: dict[str, Any] = {"encoder_hidden_states": text} if _attends(block) else {}
            extra |= {"temb": embedding, "res_hidden_states_tuple": block_skips, "upsample_size": size}
            hidden = self._run(block, detached, hidden_states=hidden, **extra)
        hidden = nn.functional.silu(self._run(self.conv_norm_out, detached, input=hidden))
        return self._run(self.conv_out, detached, input=hidden)

    def _run(self, block: nn.Module, detached: bool, **inputs: Any) -> Tensor:
        def run(**arguments: Any) -> Tensor:
            if not detached:
                return block(**arguments)
            weights = {name: weight.detach() for name, weight in block.named_parameters()}
            return functional_call(block, weights, (), arguments)

        if self.recompute and torch.is_grad_enabled():
            return cast(Tensor, checkpoint(run, use_reentrant=False, preserve_rng_state=False, **inputs))
        return run(**inputs)


def control(
    network: ControlNetModel, noisy: Tensor, timesteps: Tensor, text: Tensor, hint_embedding: Tensor
) -> list[Tensor]:
    """Return the residuals of the control branch, one per skip and one for the middle.

    `hint_embedding` is the hint module's output, so that it is computed once per hint and not once per step.
    """
    embedding = embed_time(network, timesteps, noisy, text)
    states = states_of(network, text)
    hidden, skips = _descend(network, network.conv_in(noisy) + hint_embedding, embedding, states)
    residuals = [zero(skip) for zero, skip in zip(network.controlnet_down_blocks, skips, strict=True)]
    return [*residuals, network.controlnet_mid_block(hidden)]


def _descend(
    network: UNet2DConditionModel | ControlNetModel,
    hidden: Tensor,
    embedding: Tensor,
    text: Tensor,
    features: Sequence[Tensor] = (),
) -> tuple[Tensor, tuple[Tensor, ...]]:
    skips: tuple[Tensor, ...] = (hidden,)
    for level, block in enumerate(network.down_blocks):
        extra: dict[str, Any] = {"encoder_hidden_states": text} if _attends(block) else {}
        if features and _attends(block):
            extra["additional_residuals"] = features[level]
        if features and not _attends(block):
            hidden, outputs = _adapted(block, hidden, embedding, features[level])
        else:
            hidden, outputs = block(hidden_states=hidden, temb=embedding, **extra)
        skips += outputs
    middle: Any = network.mid_block
    return middle(hidden, embedding, encoder_hidden_states=text), skips


def _adapted(block: Any, hidden: Tensor, embedding: Tensor, feature: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a block without attention, which takes no features in diffusers."""
    outputs: list[Tensor] = []
    for resnet in block.resnets:
        hidden = resnet(hidden, embedding)
        outputs.append(hidden)
    outputs[-1] = hidden = hidden + feature
    for downsample in block.downsamplers or ():
        hidden = downsample(hidden)
        outputs.append(hidden)
    return hidden, tuple(outputs)


def _attends(block: nn.Module) -> bool:
    return bool(getattr(block, "has_cross_attention", False))
