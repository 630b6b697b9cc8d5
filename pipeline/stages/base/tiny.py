"""A small base shaped like Stable Diffusion 1.5: autoencoder, CLIP text tower, conditional U-Net, scheduler."""

from typing import Any

from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from pipeline.networks.stable_diffusion import linear_start
from pipeline.networks.stable_diffusion.model import DDIM
from pipeline.stages.base.params import Autoencoder, Denoiser, Prediction

TOKENS = 32  # length of a prompt


def autoencoder(params: Autoencoder, size: int) -> AutoencoderKL:
    """Build an AutoencoderKL with one layer per block and no attention in the middle."""
    levels = len(params.channels)
    blocks: dict[str, Any] = {  # diffusers types them as tuples of one
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "block_out_channels": params.channels,
    }
    return AutoencoderKL(
        **blocks,
        layers_per_block=1,
        latent_channels=params.latent_channels,
        norm_num_groups=linear_start.GROUPS,
        sample_size=size,
        mid_block_add_attention=False,
    )


def denoiser(params: Denoiser, latent_channels: int, latent_size: int) -> UNet2DConditionModel:
    """Build a UNet2DConditionModel with cross-attention on all levels but the finest."""
    levels = len(params.channels)
    attending = levels - 1
    return UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=params.channels,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * attending,
        up_block_types=("CrossAttnUpBlock2D",) * attending + ("UpBlock2D",),
        cross_attention_dim=params.text_width,
        attention_head_dim=8,
    )


def text_tower(width: int) -> CLIPTextModel:
    """Build a CLIP text tower of two layers over single characters."""
    vocabulary = len(characters())
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=2,
        num_attention_heads=width // 8,
        max_position_embeddings=TOKENS,
        projection_dim=width,
        bos_token_id=vocabulary - 2,
        eos_token_id=vocabulary - 1,
        pad_token_id=vocabulary - 1,
    )
    return CLIPTextModel(config)


def tokenizer() -> CLIPTokenizer:
    """Build a CLIP tokenizer without merges: every character is a token."""
    return CLIPTokenizer(vocab=characters(), merges=[], model_max_length=TOKENS)


def characters() -> dict[str, int]:
    """Return the vocabulary: printable ASCII, alone and at the end of a word, and the two special tokens."""
    letters = [chr(code) for code in range(33, 127)]
    entries = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    return {entry: index for index, entry in enumerate(entries)}


def scheduler(prediction: Prediction) -> DDIMScheduler:
    """Return the noise schedule of Stable Diffusion 1.5 with the given prediction type."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=prediction,
        **DDIM,
    )
