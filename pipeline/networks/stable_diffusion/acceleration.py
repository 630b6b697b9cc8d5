"""Switches of the section `finetune` that make training faster or smaller and leave the method as it is."""

from typing import cast

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import nn
from torch.utils.checkpoint import checkpoint

from pipeline.core.errors import UserError
from pipeline.networks.stable_diffusion import lora
from pipeline.networks.stable_diffusion.compilation import compile_blocks
from pipeline.networks.stable_diffusion.split_unet import UNetDecoder
from pipeline.stages.finetune.params import Finetune

FRESH = (
    "controlnet_cond_embedding",
    "controlnet_down_blocks",
    "controlnet_mid_block",
)  # not from the base: trained in full


def accelerate(unet: UNet2DConditionModel, network: ControlNetModel, objective: nn.Module, settings: Finetune) -> None:
    """Prepare a base's U-Net, its control network and the objective's decoder for training.

    With `compile`, an objective that has the attribute `fixed_sizes` gets True there: each size is compiled alone.
    Raises UserError for switches that cannot be used here.
    """
    decoders = [module for module in objective.modules() if isinstance(module, UNetDecoder)]
    if settings.attention == "xformers":
        use_xformers(unet, network)
    if settings.lora_rank is not None:
        lora.add_lora(network, settings.lora_rank, FRESH)
        for decoder in decoders:
            lora.add_lora(decoder, settings.lora_rank)
    _arithmetic(unet, network, settings)
    if settings.gradient_checkpointing:
        network.enable_gradient_checkpointing(_recompute)
        for decoder in decoders:
            decoder.recompute = True
    if settings.compile:
        compile_blocks(blocks_to_compile(unet, network))
        if hasattr(objective, "fixed_sizes"):
            objective.fixed_sizes = True  # pyright: ignore[reportArgumentType]


def _arithmetic(unet: UNet2DConditionModel, network: ControlNetModel, settings: Finetune) -> None:
    """Set the precision of float32 products on CUDA and of the frozen half, and the memory format."""
    if unet.device.type == "cuda":
        torch.set_float32_matmul_precision("high" if settings.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = settings.tf32
    for part in frozen_half(unet) if settings.precision == "bf16" else ():
        part.to(torch.bfloat16)
    for part in (unet, network) if settings.channels_last else ():
        cast(nn.Module, part).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def use_xformers(*networks: UNet2DConditionModel | ControlNetModel) -> None:
    """Enable xformers attention by diffusers' own switch. Raises UserError without CUDA or the package."""
    if not torch.cuda.is_available():
        raise UserError("finetune.attention: xformers needs CUDA, which is not available; use sdpa")
    try:
        for network in networks:
            network.enable_xformers_memory_efficient_attention()
    except (ImportError, ValueError, RuntimeError, NotImplementedError) as error:
        raise UserError(
            f"finetune.attention: xformers cannot be used here ({error}); install it, or use sdpa"
        ) from error


def frozen_half(unet: UNet2DConditionModel) -> tuple[nn.Module, ...]:
    """Return the parts of a U-Net that no ControlNet method trains."""
    return unet.conv_in, unet.time_embedding, unet.down_blocks, cast(nn.Module, unet.mid_block)


def blocks_to_compile(unet: UNet2DConditionModel, network: ControlNetModel) -> list[nn.Module]:
    """Return the blocks in which a training step spends its time."""
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    blocks += [*network.down_blocks, network.mid_block, network.controlnet_cond_embedding]
    return cast(list[nn.Module], blocks)


def _recompute(module: nn.Module, *inputs: object) -> object:
    """Recompute the activations of a module for the gradient; no layer of these networks is random."""
    return checkpoint(module.__call__, *inputs, use_reentrant=False, preserve_rng_state=False)
