"""Soft edges by PiDiNet (Su et al. 2021) in controlnet-aux's version, over the mask."""

from torch import Tensor, nn

from pipeline.core.contracts import Hint
from pipeline.methods.conditioning._soft_edge_pidinet_params import Params
from pipeline.methods.conditioning._soft_edges import (
    KEY,
    REPOSITORY,
    SoftEdgeHint,
    load_weights,
    suppress_warnings,
)
from pipeline.networks.pretrained import Weights

NAME = "soft_edge_pidinet"
SHA256 = "80860ac267258b5f27486e0ef152a211d0b08120f62aeb185a050acc30da486c"
WEIGHTS = Weights("table5_pidinet.pth", REPOSITORY, SHA256, "research only, commercial use on request", KEY)


def build(params: Params, num_classes: int) -> Hint:
    """Return the hint; it needs the image. Raises UserError where the weights are not available."""
    return SoftEdgeHint(NAME, params, num_classes, load_weights(network(), NAME, WEIGHTS, params), edges)


def network() -> nn.Module:
    """Build the network without weights."""
    with suppress_warnings():
        from controlnet_aux.pidi.model import pidinet
    return pidinet()


def edges(network: nn.Module, images: Tensor) -> Tensor:
    """Return the last, fused output; the network takes BGR, as controlnet-aux does."""
    return network(images.flip(1))[-1][:, 0]
