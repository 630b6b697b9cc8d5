"""Low-rank updates of attention weights (Hu et al. 2022, LoRA): optional, and not the paper's method.

Only the updates are trained, and the children that the caller names as fresh. A parametrisation of torch
holds them, so that the layers, checkpoints and exports of plain weights stay as they are. Where every sample needs a
gradient of its own, layers hold them instead, for a parametrisation has no samples.
"""

from collections.abc import Collection
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
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


class LoRALinear(nn.Module):
    """y = W x + b + up(down x): the same update as a sum of layers, each of which sees the samples [B, ..., in]."""

    def __init__(self, linear: nn.Linear, rank: int) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        update = LoRAUpdate(linear.weight, rank)
        self.down = _layer_of(update.down)
        self.up = _layer_of(update.up)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias) + self.up(self.down(x))

    def merged(self) -> Tensor:
        """Return the weight [out, in] of the plain layer that computes the same."""
        return self.weight + self.up.weight @ self.down.weight


def _layer_of(weight: nn.Parameter) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = weight
    return layer


def add_lora(network: nn.Module, rank: int, fresh: Collection[str] = (), as_layers: bool = False) -> None:
    """Freeze a network and add trained updates to its attention; children named in `fresh` stay trained in full.

    A network that is frozen already stays as it is. `as_layers` puts a LoRALinear in the place of each layer.
    """
    if not any(weight.requires_grad for weight in network.parameters()):
        return
    network.requires_grad_(False)
    for name in fresh:
        network.get_submodule(name).requires_grad_(True)
    for name, layer in list(network.named_modules()):
        if name.endswith(PROJECTIONS):
            linear = cast(nn.Linear, layer)
            if as_layers:
                network.set_submodule(name, LoRALinear(linear, rank))
            else:
                parametrize.register_parametrization(linear, "weight", LoRAUpdate(linear.weight, rank))


def plain_state(network: nn.Module) -> dict[str, Tensor]:
    """Return the state dict that the network would have without updates: they are added to the weights."""
    state = {name: value for name, value in network.state_dict().items() if ".parametrizations." not in name}
    for name, layer in network.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            state[f"{name}.weight"] = cast(Tensor, layer.weight).detach()
        elif isinstance(layer, LoRALinear):
            state[f"{name}.weight"] = layer.merged().detach()
            del state[f"{name}.down.weight"], state[f"{name}.up.weight"]
    return state
