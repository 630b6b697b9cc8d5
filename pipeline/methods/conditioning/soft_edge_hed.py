"""Soft edges by HED (Xie & Tu 2015) in controlnet-aux's version, over the mask."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core.contracts import Hint
from pipeline.methods.conditioning._soft_edge_hed_params import Params
from pipeline.methods.conditioning._soft_edges import (
    KEY,
    REPOSITORY,
    SoftEdgeHint,
    load_weights,
    suppress_warnings,
)
from pipeline.networks.pretrained import Weights

NAME = "soft_edge_hed"
SHA256 = "5ca93762ffd68a29fee1af9d495bf6aab80ae86f08905fb35472a083a4c7a8fa"
WEIGHTS = Weights("ControlNetHED.pth", REPOSITORY, SHA256, "Apache-2.0, as its source code states", KEY)


def build(params: Params, num_classes: int) -> Hint:
    """Return the hint; it needs the image. Raises UserError where the weights are not available."""
    return SoftEdgeHint(NAME, params, num_classes, load_weights(network(), NAME, WEIGHTS, params), edges)


def network() -> nn.Module:
    """Build the network without weights."""
    with suppress_warnings():
        from controlnet_aux.hed import ControlNetHED_Apache2
    return ControlNetHED_Apache2()


def edges(network: nn.Module, images: Tensor) -> Tensor:
    """Return the sigmoid of the five side outputs' mean, at the image's size."""
    sides = [F.interpolate(side, images.shape[-2:], mode="bilinear") for side in network(images * 255)]
    return torch.sigmoid(torch.stack(sides).mean(0))[:, 0]
