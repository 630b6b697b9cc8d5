"""Switches of the section `finetune` that make training faster or smaller and leave the method as it is."""

from collections.abc import Sequence
from typing import cast

import torch
from diffusers import ControlNetModel, UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import Attention
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
    """Prepare a base's U-Net, its control network, and the objective's decoders and further ControlNets for training.

    With `compile`, an objective that has the attribute `fixed_sizes` gets True there: each size is compiled alone.
    Raises UserError for switches that cannot be used here.
    """
    networks, decoders = trained_networks(network, objective)
    if settings.attention == "xformers":
        use_xformers(unet, *networks, *decoders)
    if settings.lora_rank is not None:
        _add_lora(networks, decoders, settings.lora_rank, settings.privacy is not None)
    _arithmetic([unet, *networks, *decoders], settings, unet.device, frozen_half(unet))
    if settings.gradient_checkpointing:
        for one in networks:
            one.enable_gradient_checkpointing(_recompute)
        for decoder in decoders:
            decoder.recompute = True
    if settings.compile:
        compile_blocks(blocks_to_compile(unet, networks, decoders))
        if hasattr(objective, "fixed_sizes"):
            objective.fixed_sizes = True  # pyright: ignore[reportArgumentType]


def prepare_network(network: UNet2DModel, settings: Finetune) -> None:
    """Prepare the network of a diffusion model of pixels, all of which is trained, for training.

    Raises UserError for switches that cannot be used here.
    """
    if settings.attention == "xformers":
        use_xformers(network)
    _arithmetic([network], settings, network.device)
    if settings.gradient_checkpointing:
        network.enable_gradient_checkpointing(_recompute)
    if settings.compile:
        compile_blocks(cast(list[nn.Module], [*network.down_blocks, network.mid_block, *network.up_blocks]))


def trained_networks(network: ControlNetModel, objective: nn.Module) -> tuple[list[ControlNetModel], list[UNetDecoder]]:
    """Return the control network with the further ones of an objective (a teacher's), and all its decoders."""
    others = [module for module in objective.modules() if isinstance(module, ControlNetModel)]
    decoders = [module for module in objective.modules() if isinstance(module, UNetDecoder)]
    return list(dict.fromkeys([network, *others])), decoders


def _add_lora(networks: Sequence[ControlNetModel], decoders: Sequence[UNetDecoder], rank: int, as_layers: bool) -> None:
    for network in networks:
        lora.add_lora(network, rank, FRESH, as_layers)
    for decoder in decoders:
        lora.add_lora(decoder, rank, as_layers=as_layers)


def _arithmetic(
    networks: Sequence[nn.Module], settings: Finetune, device: torch.device, frozen: Sequence[nn.Module] = ()
) -> None:
    """Set the precision of float32 products on CUDA and of the frozen parts, and the memory format."""
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if settings.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = settings.tf32
    for part in frozen if settings.precision == "bf16" else ():
        part.to(torch.bfloat16)
    for part in networks if settings.channels_last else ():
        cast(nn.Module, part).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def use_xformers(*networks: nn.Module) -> None:
    """Enable xformers attention by diffusers' own switch. Raises UserError without CUDA or the package."""
    if not torch.cuda.is_available():
        raise UserError("finetune.attention: xformers needs CUDA, which is not available; use sdpa")
    try:
        for layer in (module for network in networks for module in network.modules()):
            if isinstance(layer, Attention):
                layer.set_use_memory_efficient_attention_xformers(True)
    except (ImportError, ValueError, RuntimeError, NotImplementedError) as error:
        raise UserError(
            f"finetune.attention: xformers cannot be used here ({error}); install it, or use sdpa"
        ) from error


def frozen_half(unet: UNet2DConditionModel) -> tuple[nn.Module, ...]:
    """Return the parts of a U-Net that no ControlNet method trains."""
    parts = [unet.conv_in, unet.time_embedding, unet.down_blocks, unet.mid_block, getattr(unet, "add_embedding", None)]
    return tuple(cast(nn.Module, part) for part in parts if part is not None)


def blocks_to_compile(
    unet: UNet2DConditionModel, networks: Sequence[ControlNetModel], decoders: Sequence[UNetDecoder] = ()
) -> list[nn.Module]:
    """Return the blocks in which a training step spends its time, each once: a decoder may share those of the U-Net."""
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    for network in networks:
        blocks += [*network.down_blocks, network.mid_block, network.controlnet_cond_embedding]
    blocks += [block for decoder in decoders for block in decoder.up_blocks]
    return cast(list[nn.Module], list(dict.fromkeys(blocks)))


def _recompute(module: nn.Module, *inputs: object) -> object:
    """Recompute the activations of a module for the gradient; no layer of these networks is random."""
    return checkpoint(module.__call__, *inputs, use_reentrant=False, preserve_rng_state=False)
