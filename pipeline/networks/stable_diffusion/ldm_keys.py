"""Names of weights in the LDM layout (CompVis, ControlNet) for the names that diffusers and transformers give them.

A table maps every key of one of our modules to its key in the checkpoint; inverted, it reads a checkpoint.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

UNET, CONTROL = "model.diffusion_model.", "control_model."
VAE, TEXT = "first_stage_model.", "cond_stage_model.transformer.text_model."
EMA = "model_ema."
POSITIONS = TEXT + "embeddings.position_ids"  # a buffer of older transformers: 0, 1, ..., 76

Table = dict[str, str]  # our key -> the checkpoint's
Rules = dict[str, str]  # our prefix -> the checkpoint's

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
DENSE_HINT = (  # Siamese-Diffusion's names of the 13 layers of its hint input
    *("initial_conv", "layer1", "conv_before_res2", "layer2"),
    *("patch_merge1", "conv_before_res3", "layer3"),
    *("patch_merge2", "conv_before_res4", "layer4"),
    *("patch_merge3", "conv_before_res5", "layer5"),
)


def unet(keys: Iterable[str], config: Mapping[str, Any]) -> Table:
    """Return the table of a UNet2DConditionModel, or of part of its keys (the decoder)."""
    return _table(keys, {**_trunk(config), **_decoder(config)}, UNET, _resnet)


def controlnet(keys: Iterable[str], config: Mapping[str, Any]) -> Table:
    """Return the table of a ControlNetModel with the dense or the stock hint input."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    count = levels * (layers + 1)  # the first convolution, and all but the last level's downsampling
    zeros = {f"controlnet_down_blocks.{i}": f"zero_convs.{i}.0" for i in range(count)}
    rules = {**_trunk(config), **zeros, "controlnet_mid_block": "middle_block_out.0", **_dense_hint(), **_stock_hint()}
    return _table(keys, rules, CONTROL, _resnet)


def vae(keys: Iterable[str], config: Mapping[str, Any]) -> Table:
    """Return the table of an AutoencoderKL; its attention's weights are 1x1 convolutions in the checkpoint."""
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    rules: Rules = {"quant_conv": "quant_conv", "post_quant_conv": "post_quant_conv"}
    for half in ("encoder", "decoder"):
        rules |= {f"{half}.{name}": f"{half}.{name}" for name in ("conv_in", "conv_out")}
        rules |= {f"{half}.conv_norm_out": f"{half}.norm_out", f"{half}.mid_block.attentions.0": f"{half}.mid.attn_1"}
        rules |= {f"{half}.mid_block.resnets.{i}": f"{half}.mid.block_{i + 1}" for i in range(2)}
    for level in range(levels):
        down, up = f"encoder.down_blocks.{level}", f"decoder.up_blocks.{level}"
        ldm_down, ldm_up = f"encoder.down.{level}", f"decoder.up.{levels - 1 - level}"  # LDM counts up from the finest
        rules |= {f"{down}.resnets.{i}": f"{ldm_down}.block.{i}" for i in range(layers)}
        rules |= {f"{up}.resnets.{i}": f"{ldm_up}.block.{i}" for i in range(layers + 1)}
        rules |= {f"{down}.downsamplers.0": f"{ldm_down}.downsample", f"{up}.upsamplers.0": f"{ldm_up}.upsample"}
    return _table(keys, rules, VAE, _vae_leaf)


def text(keys: Iterable[str]) -> Table:
    """Return the table of a CLIPTextModel of any version of transformers, with or without its inner prefix."""
    return {key: TEXT + key.removeprefix("text_model.") for key in keys}


def ema(key: str) -> str:
    """Return the key of the moving average of a U-Net weight: its name without dots."""
    return EMA + key.removeprefix("model.").replace(".", "")


def is_vae_attention(key: str) -> bool:
    """Return whether a weight of the checkpoint is a 1x1 convolution [C, C, 1, 1] that diffusers keeps as [C, C]."""
    return re.fullmatch(r"first_stage_model\.\w+\.mid\.attn_1\.(q|k|v|proj_out)\.weight", key) is not None


def _table(keys: Iterable[str], rules: Rules, prefix: str, leaf: Any) -> Table:
    """Rename each key by the one rule whose prefix it has."""
    table = {}
    for key in keys:
        parts = key.split(".")
        heads = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
        head = next(name for name in heads if name in rules)
        table[key] = prefix + rules[head] + leaf(head, key[len(head) :])
    return table


def _resnet(head: str, rest: str) -> str:
    return _renamed(rest, RESNET) if ".resnets." in head else rest


def _vae_leaf(head: str, rest: str) -> str:
    if head.endswith("attentions.0"):
        return _renamed(rest, VAE_ATTENTION)
    return rest.replace("conv_shortcut", "nin_shortcut")


def _renamed(rest: str, names: Mapping[str, str]) -> str:
    """Rename `.norm1.weight` by the table of layers."""
    layer, _, kind = rest[1:].rpartition(".")
    return f".{names[layer]}.{kind}"


def _trunk(config: Mapping[str, Any]) -> Rules:
    """Return the rules that U-Net and ControlNet share: time embedding, encoder, middle."""
    rules = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2"}
    rules |= {"conv_in": "input_blocks.0.0"}
    rules |= {f"mid_block.{part}": f"middle_block.{i}" for i, part in enumerate(("resnets.0", "attentions.0"))}
    rules |= {"mid_block.resnets.1": "middle_block.2"}
    positions = _positions(len(config["block_out_channels"]), config["layers_per_block"] + 1)
    for index, (level, layer) in enumerate(positions, start=1):
        block = f"down_blocks.{level}"
        if layer == config["layers_per_block"]:
            rules[f"{block}.downsamplers.0.conv"] = f"input_blocks.{index}.0.op"
        else:
            rules[f"{block}.resnets.{layer}"] = f"input_blocks.{index}.0"
            rules[f"{block}.attentions.{layer}"] = f"input_blocks.{index}.1"
    return rules


def _decoder(config: Mapping[str, Any]) -> Rules:
    rules = {"conv_norm_out": "out.0", "conv_out": "out.2"}
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"] + 1
    for index, (level, layer) in enumerate(_positions(levels, layers)):
        block = f"up_blocks.{level}"
        rules[f"{block}.resnets.{layer}"] = f"output_blocks.{index}.0"
        rules[f"{block}.attentions.{layer}"] = f"output_blocks.{index}.1"
        if layer == layers - 1:
            place = 2 if "CrossAttn" in config["up_block_types"][level] else 1
            rules[f"{block}.upsamplers.0"] = f"output_blocks.{index}.{place}"
    return rules


def _positions(levels: int, layers: int) -> Iterator[tuple[int, int]]:
    yield from ((level, layer) for level in range(levels) for layer in range(layers))


def _dense_hint() -> Rules:
    names = {f"layers.{i}": f"0.{name}" for i, name in enumerate(DENSE_HINT)}
    hint = {**names, "zero": "1"}
    return {f"controlnet_cond_embedding.{ours}": f"input_hint_block.{theirs}" for ours, theirs in hint.items()}


def _stock_hint() -> Rules:
    """Return the rules of eight convolutions with a SiLU after each but the last: every second index."""
    names = ("conv_in", *(f"blocks.{i}" for i in range(6)), "conv_out")
    return {f"controlnet_cond_embedding.{name}": f"input_hint_block.{2 * i}" for i, name in enumerate(names)}
