"""What Stable Diffusion XL adds to the timestep: the pooled prompt and six sizes of the image (Podell et al. 2023).

A prompt stays one tensor [B, L, D]: with these additions its last row holds the pooled embedding, the sizes and zeros.
Whatever is dropped, cached, repeated for guidance or dealt to processes is then the whole prompt. The row is in float32
or better, because half precision would round the sizes.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.diffusion.schedule import at_least_float32
from pipeline.networks.stable_diffusion.families import TIME_NUMBERS


def with_added(states: Tensor, pooled: Tensor, size: int) -> Tensor:
    """Return states [B, L, D] with one more row, of the pooled embedding [B, P] and the sizes of a square image.

    The original size and the target size are `size` pixels and the crop begins at (0, 0): images are resized, never
    cropped, and a mirrored image has the sizes of the image.
    """
    sizes = torch.tensor([size, size, 0, 0, size, size], dtype=torch.float32, device=states.device)
    row = torch.cat([at_least_float32(pooled), sizes.expand(len(pooled), -1)], dim=1)
    row = F.pad(row, (0, states.shape[-1] - row.shape[1]))
    return torch.cat([at_least_float32(states), row[:, None]], dim=1)


def states_of(network: nn.Module, text: Tensor) -> Tensor:
    """Return the rows of a prompt [B, L, D] to which the attention of a U-Net or ControlNet attends."""
    return text if _embedding(network) is None else text[:, :-1]


def embed_added(network: nn.Module, text: Tensor) -> Tensor | None:
    """Return what a U-Net or ControlNet adds to its embedding [B, E] of the timestep; None where it adds nothing."""
    embedding = _embedding(network)
    if embedding is None:
        return None
    waves: Any = network.add_time_proj
    width = embedding.linear_1.in_features - TIME_NUMBERS * waves.num_channels
    pooled, sizes = text[:, -1, :width], text[:, -1, width : width + TIME_NUMBERS]
    times = waves(sizes.flatten()).reshape(len(text), -1)
    return embedding(torch.cat([pooled, times], dim=1).to(embedding.linear_1.weight.dtype))


def _embedding(network: nn.Module) -> Any:
    return getattr(network, "add_embedding", None)
