"""Prompts in the text towers: one tower for Stable Diffusion 1 and 2, a second one beside it for XL."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModelWithProjection, CLIPTokenizer

from pipeline.networks.stable_diffusion.added_conditions import with_added


@dataclass(eq=False)
class SecondTower:
    """The second text tower of Stable Diffusion XL; its pooled prompt conditions the U-Net beside the states."""

    text_encoder: CLIPTextModelWithProjection
    tokenizer: CLIPTokenizer
    zeros_for_empty: bool = True  # the pipeline's force_zeros_for_empty_prompt


def token_ids(tokenizer: CLIPTokenizer, prompts: Sequence[str], device: torch.device) -> Tensor:
    """Return the tokens [B, L] of prompts, cut or padded to the length of the tower."""
    length = tokenizer.model_max_length
    tokens: Any = tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return tokens.input_ids.to(device)


def embed_in_two(first: Any, second: Any, tokens: tuple[Tensor, Tensor], shown: Tensor | None, size: int) -> Tensor:
    """Return prompts [B, L + 1, D1 + D2] as Stable Diffusion XL sees them (Podell et al. 2023, table 1).

    The states are those before the last layer of both towers, side by side; the last row holds the pooled prompt of the
    second tower and the size of the images (added_conditions.py). Prompts of which `shown` [B] bool is False have
    states and pooled prompt of zeros, and the sizes all the same, as in diffusers' pipelines.
    """
    by_first = first(tokens[0], output_hidden_states=True)
    by_second = second(tokens[1], output_hidden_states=True)
    states = torch.cat([by_first.hidden_states[-2], by_second.hidden_states[-2]], dim=-1)
    pooled = by_second.text_embeds
    if shown is not None:
        states, pooled = states * shown[:, None, None], pooled * shown[:, None]
    return with_added(states, pooled, size)
