"""Stable Diffusion XL without its weights: the configurations of its parts."""

from collections.abc import Mapping
from typing import Any

from pipeline.networks.stable_diffusion import sd15
from pipeline.networks.stable_diffusion.families import TIME_NUMBERS
from pipeline.networks.stable_diffusion.sd15 import PartConfigs

TIME_WIDTH = 256
TEXT_2: Mapping[str, Any] = {  # OpenCLIP ViT-bigG/14, with the projection of the pooled prompt
    **sd15.TEXT,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
UNET: Mapping[str, Any] = {
    "sample_size": 128,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280),
    "layers_per_block": 2,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "cross_attention_dim": sd15.TEXT["hidden_size"] + TEXT_2["hidden_size"],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": TIME_WIDTH,
    "projection_class_embeddings_input_dim": TEXT_2["projection_dim"] + TIME_NUMBERS * TIME_WIDTH,
}
VAE: Mapping[str, Any] = {**sd15.VAE, "sample_size": 1024, "scaling_factor": 0.13025}
CONFIGS = PartConfigs(UNET, VAE, sd15.TEXT, TEXT_2)
