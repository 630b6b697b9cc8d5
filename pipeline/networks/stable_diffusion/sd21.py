"""Stable Diffusion 2.1 without its weights: the configurations of its parts."""

from collections.abc import Mapping
from typing import Any

from pipeline.networks.stable_diffusion import sd15
from pipeline.networks.stable_diffusion.sd15 import PartConfigs

UNET: Mapping[str, Any] = {
    **sd15.UNET,
    "cross_attention_dim": 1024,
    "attention_head_dim": (5, 10, 20, 20),  # diffusers' name for the numbers of heads, 64 channels each
    "use_linear_projection": True,
}
TEXT: Mapping[str, Any] = {  # OpenCLIP ViT-H/14 without its last layer
    **sd15.TEXT,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "projection_dim": 512,
    "hidden_act": "gelu",
}
CONFIGS = PartConfigs(UNET, sd15.VAE, TEXT)
