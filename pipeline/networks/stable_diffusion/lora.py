"""Low-rank updates of attention weights (Hu et al. 2022, LoRA): optional, and not the paper's method.

Only the updates are trained, and the children that the caller names as fresh. A parametrisation of torch
holds them, so that the layers, checkpoints and exports of plain weights stay as they are.
"""

from collections.abc import Collection
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")


class LoRAUpdate(nn.Module):
    """weight + up down, with `down` [r, in] random and `up` [out, r] zero at first."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = weight.shape
        self.down = nn.Parameter(torch.randn(rank, inputs).to(weight) / rank)
        self.up = nn.Parameter(weight.new_zeros(outputs, rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.up @ self.down


def add_lora(network: nn.Module, rank: int, fresh: Collection[str] = ()) -> None:
    """Freeze a network and add trained updates to its attention; children named in `fresh` stay trained in full.

    A network that is frozen already stays as it is.
    """
    if not any(weight.requires_grad for weight in network.parameters()):
        return
    network.requires_grad_(False)
    for name in fresh:
        network.get_submodule(name).requires_grad_(True)
    for name, layer in list(network.named_modules()):
        if name.endswith(PROJECTIONS):
            linear = cast(nn.Linear, layer)
            parametrize.register_parametrization(linear, "weight", LoRAUpdate(linear.weight, rank))


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict that the network would have without parametrisations: updates added to the weights."""
    state = {name: value for name, value in network.state_dict().items() if ".parametrizations." not in name}
    for name, layer in network.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            state[f"{name}.weight"] = cast(Tensor, layer.weight).detach()
    return state
