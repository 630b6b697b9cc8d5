"""The file by which diffusers knows the parts of a Stable Diffusion folder."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.networks.stable_diffusion.families import SD1, SD2, SDXL, Family

CONTROL_PIPELINES: Mapping[Family, str] = {  # the classes that run a base with a ControlNet
    SD1: "StableDiffusionControlNetPipeline",
    SD2: "StableDiffusionControlNetPipeline",
    SDXL: "StableDiffusionXLControlNetPipeline",
}
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
XL_MODEL_INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "feature_extractor": [None, None],
    "force_zeros_for_empty_prompt": True,
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def index_path(folder: Path) -> Path:
    """Return where the index lies in a diffusers folder."""
    return folder / "model_index.json"
